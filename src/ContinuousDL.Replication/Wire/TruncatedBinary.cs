using System.Numerics;
using System.Runtime.CompilerServices;

namespace ContinuousDL.Replication.Wire;

/// <summary>
/// Truncated binary: a number below n takes ⌊log₂ n⌋ bits where it is among the first 2^(⌊log₂ n⌋ + 1) − n, which are the short
/// ones, and one bit more where it is not. The last bits of the long ones come after all other bits.
/// </summary>
internal static class TruncatedBinary<TFormat>
    where TFormat : struct, IFloatFormat
{
    /// <summary>The most bytes that one number takes.</summary>
    private const int LargestNumber = 64 / 8;

    /// <summary>How many last bits are in what a reader can see at once.</summary>
    private const int BitsAtOnce = BitReader.MostBits;

    /// <summary>Writes the numbers, of those that are long all but the last bits; then these.</summary>
    /// <param name="numbers">The numbers.</param>
    /// <param name="widths">How many values are in each class; overwritten.</param>
    /// <param name="output">Where they are written.</param>
    public static void Write(scoped ReadOnlySpan<ulong> numbers, scoped Span<ulong> widths, ref BitWriter output)
    {
        output.Reserve((numbers.Length * LargestNumber) + ((numbers.Length + 7) / 8));
        var writer = output;
        widths = widths[..numbers.Length];
        for (var j = 0; j < numbers.Length; j++)
        {
            var bits = BitsOf(widths[j]);
            var lastShort = LastShortOf(widths[j], bits);

            // Without branches, since half of the numbers are long, and which ones can't be predicted.
            var isLong = numbers[j] > lastShort ? 1 : 0;
            var number = numbers[j] + ((lastShort + 1) & (ulong)-isLong);
            widths[j] = ((ulong)isLong << 1) | (number & (ulong)isLong);
            if (TFormat.Width <= 32) writer.Write(number >> isLong, bits);
            else writer.WriteLong(number >> isLong, bits);
        }

        for (var start = 0; start < widths.Length; start += BitsAtOnce)
        {
            var (bits, length) = (0ul, 0);
            for (var j = start; j < widths.Length && j < start + BitsAtOnce; j++)
            {
                var isLong = (int)(widths[j] >> 1);
                bits = (bits << isLong) | (widths[j] & 1);
                length += isLong;
            }

            writer.Write(bits, length);
        }

        output = writer;
    }

    /// <summary>Reads numbers, and adds them to the places of the first values.</summary>
    /// <param name="orders">The places.</param>
    /// <param name="widths">How many values are in each class; overwritten.</param>
    /// <param name="input">Where the numbers are.</param>
    public static void Read(scoped Span<ulong> orders, scoped Span<ulong> widths, ref BitReader input)
    {
        var reader = input;
        widths = widths[..orders.Length];
        for (var j = 0; j < orders.Length; j++)
        {
            var bits = BitsOf(widths[j]);
            var lastShort = LastShortOf(widths[j], bits);
            ulong number;
            if (TFormat.Width <= 32)
            {
                number = reader.Peek() >> 1 >> (63 - bits);
                reader.Skip(bits);
            }
            else
            {
                number = reader.ReadLong(bits);
            }

            // A long one is 2 · number + its last bit − the number of short ones.
            var isLong = number > lastShort ? 1ul : 0;
            orders[j] += number + ((number - lastShort - 1) & (0 - isLong));
            widths[j] = isLong;
        }

        for (var start = 0; start < orders.Length; start += BitsAtOnce)
        {
            var window = reader.Peek();
            var read = 0ul;
            for (var j = start; j < orders.Length && j < start + BitsAtOnce; j++)
            {
                orders[j] += (window >> 63) & widths[j];
                window <<= (int)widths[j];
                read += widths[j];
            }

            reader.Skip((int)read);
        }

        input = reader;
    }

    /// <summary>The bits of a number among so many, of the short ones: W where it is a value as it is.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int BitsOf(ulong width) => TFormat.Width == 64 && width == 0 ? 64 : BitOperations.Log2(width);

    /// <summary>The last of the numbers that have only so many bits. Those after it take one more.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong LastShortOf(ulong width, int bits) => TFormat.Width == 64 && width == 0 ? ulong.MaxValue : (2ul << bits) - width - 1;
}
