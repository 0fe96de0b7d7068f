using System.Runtime.CompilerServices;

namespace ContinuousDL.Replication.Wire;

/// <summary>Classes and signs in the bits of a message: the prefix code of each class, and the sign after it.</summary>
internal static class ClassBits
{
    /// <summary>Where the sign is in the byte of a class.</summary>
    public const int SignShift = 7;

    /// <summary>The bits of a class without the sign.</summary>
    public const int SymbolMask = (1 << SignShift) - 1;

    /// <summary>The most bytes that the sign and class of one value take.</summary>
    private const int LargestClass = (1 + PrefixCode.LongestCode + 7) / 8;

    /// <summary>How many classes and signs are in what a reader can see at once.</summary>
    private const int AtOnce = 4;

    /// <summary>Writes classes and signs, several at once.</summary>
    /// <param name="code">The code of the classes.</param>
    /// <param name="classes">The classes, with the signs in the highest bits.</param>
    /// <param name="output">Where they are written.</param>
    public static void Write(PrefixCode code, scoped ReadOnlySpan<byte> classes, ref BitWriter output)
    {
        output.Reserve(classes.Length * LargestClass);
        var writer = output;
        var lengths = code.Lengths;
        var codes = code.Codes;
        for (; !classes.IsEmpty; classes = classes[Math.Min(AtOnce, classes.Length)..])
        {
            var (bits, length) = (0ul, 0);
            for (var j = 0; j < AtOnce && j < classes.Length; j++)
            {
                var (symbol, sign) = (classes[j] & SymbolMask, (uint)classes[j] >> SignShift);
                var own = 1 + lengths[symbol];
                bits = (bits << own) | ((uint)codes[symbol] << 1) | sign;
                length += own;
            }

            writer.Write(bits, length);
        }

        output = writer;
    }

    /// <summary>Reads classes and signs, several at once.</summary>
    /// <param name="table">The code of the classes.</param>
    /// <param name="classes">Receives the classes, with the signs in the highest bits.</param>
    /// <param name="input">Where they are.</param>
    /// <exception cref="WireFormatException">A code stands for nothing.</exception>
    public static void Read(ReadOnlySpan<ushort> table, scoped Span<byte> classes, ref BitReader input)
    {
        var reader = input;
        var isBroken = 0u;
        for (; classes.Length >= AtOnce; classes = classes[AtOnce..])
        {
            var window = reader.Peek();
            var read = ReadOne(table, ref window, ref classes[0], ref isBroken);
            read += ReadOne(table, ref window, ref classes[1], ref isBroken);
            read += ReadOne(table, ref window, ref classes[2], ref isBroken);
            read += ReadOne(table, ref window, ref classes[3], ref isBroken);
            reader.Skip(read);
        }

        foreach (ref var last in classes)
        {
            var window = reader.Peek();
            reader.Skip(ReadOne(table, ref window, ref last, ref isBroken));
        }

        if ((int)isBroken < 0) throw new WireFormatException("The values hold a code that stands for nothing.");
        input = reader;

        // Entries that stand for nothing are 0, and only they become negative.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static int ReadOne(ReadOnlySpan<ushort> table, ref ulong window, ref byte result, ref uint isBroken)
        {
            var entry = (uint)table[(int)(window >> (64 - PrefixCode.LongestCode))];
            isBroken |= entry - 1;
            var length = PrefixCode.LengthOf(entry);
            var rest = window << length;
            result = (byte)((uint)(rest >> 63 << SignShift) | PrefixCode.SymbolOf(entry));
            window = rest << 1;
            return length + 1;
        }
    }
}
