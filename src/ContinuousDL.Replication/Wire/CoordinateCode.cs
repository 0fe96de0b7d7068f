using System.Numerics;
using System.Runtime.CompilerServices;

namespace ContinuousDL.Replication.Wire;

/// <summary>
/// The code of ascending coordinates: the gaps between them as Golomb-Rice numbers, whose parameter follows the running mean of
/// the gaps. Where more than half of all coordinates change, those that don't are coded instead.
/// </summary>
/// <remarks>
/// For uniformly spread coordinates gaps are geometric, for which Golomb-Rice codes are within 4.1 % of the entropy at the worst
/// density and 2 to 3 % at most. The adaptation is that of LOCO-I (Weinberger, Seroussi and Sapiro 2000): where coordinates
/// cluster, and where tensors have densities of their own, the cost goes below the entropy of uniform ones.
/// </remarks>
internal static class CoordinateCode
{
    /// <summary>The longest run of zeros that stands for a quotient: one more announces the gap as it is.</summary>
    private const int EscapeLength = 24;

    /// <summary>A gap as it is: coordinates are below 2³¹.</summary>
    private const int GapBits = 31;

    /// <summary>The most bytes that one coordinate can take.</summary>
    public const int LargestCode = 8;

    private const int Chunk = 1024;

    /// <summary>How many gaps are written for so many coordinates: each takes at least one bit.</summary>
    public static int CountListed(int count, int total) => IsComplement(count, total) ? total - count : count;

    /// <summary>Writes coordinates.</summary>
    /// <param name="coordinates">The coordinates, ascending and distinct.</param>
    /// <param name="total">The model's number of coordinates.</param>
    /// <param name="writer">Where they are written.</param>
    public static void Encode(ReadOnlySpan<int> coordinates, int total, ref BitWriter writer)
    {
        var model = new GapModel(coordinates.Length, total);
        if (IsComplement(coordinates.Length, total))
        {
            var next = 0;
            var gap = 0u;
            foreach (var coordinate in coordinates)
            {
                gap = EncodeRun(next, coordinate, gap, ref model, ref writer);
                next = coordinate + 1;
            }

            EncodeRun(next, total, gap, ref model, ref writer);
            return;
        }

        var previous = -1;
        var local = writer;
        for (var i = 0; i < coordinates.Length; i++)
        {
            if (i % Chunk == 0) local.Reserve(Chunk * LargestCode);
            Encode((uint)(coordinates[i] - previous - 1), ref model, ref local);
            previous = coordinates[i];
        }

        writer = local;
    }

    /// <summary>Reads coordinates.</summary>
    /// <param name="reader">Where they are.</param>
    /// <param name="total">The model's number of coordinates.</param>
    /// <param name="coordinates">Receives them. Its length says how many there are: at most <paramref name="total"/>.</param>
    /// <exception cref="WireFormatException">They go beyond the model's.</exception>
    public static void Decode(ref BitReader reader, int total, Span<int> coordinates)
    {
        var model = new GapModel(coordinates.Length, total);
        if (IsComplement(coordinates.Length, total))
        {
            var filled = 0;
            var next = 0;
            for (var left = total - coordinates.Length; left > 0; left--)
            {
                var absent = Decode(ref reader, ref model) + next;
                if (absent >= total) ThrowBeyondModel(total);
                while (next < absent && filled < coordinates.Length) coordinates[filled++] = next++;
                next = (int)absent + 1;
            }

            while (filled < coordinates.Length) coordinates[filled++] = next++;
            return;
        }

        var previous = -1L;
        var local = reader;
        for (var i = 0; i < coordinates.Length; i++)
        {
            previous += Decode(ref local, ref model) + 1;
            if (previous >= total) ThrowBeyondModel(total);
            coordinates[i] = (int)previous;
        }

        reader = local;
    }

    private static bool IsComplement(int count, int total) => 2L * count > total;

    private static void ThrowBeyondModel(int total) =>
        throw new WireFormatException($"A coordinate lies beyond the {total:N0} that the model has.");

    /// <summary>Writes the coordinates from <paramref name="start"/> to <paramref name="end"/>, of which the first is <paramref name="gap"/> away from the last one written.</summary>
    /// <returns>The gap so far before <paramref name="end"/> + 1.</returns>
    private static uint EncodeRun(int start, int end, uint gap, ref GapModel model, ref BitWriter writer)
    {
        for (var i = start; i < end; i++)
        {
            writer.Reserve(LargestCode);
            Encode(gap, ref model, ref writer);
            gap = 0;
        }

        return gap + 1;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Encode(uint gap, ref GapModel model, ref BitWriter writer)
    {
        var parameter = model.Parameter;
        var quotient = (int)(gap >> parameter);
        if (quotient < EscapeLength)
        {
            writer.Write((1u << parameter) | (gap & ((1u << parameter) - 1)), quotient + 1 + parameter);
        }
        else
        {
            writer.Write(gap, EscapeLength + GapBits);
        }

        model.Add(gap);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static long Decode(ref BitReader reader, ref GapModel model)
    {
        var parameter = model.Parameter;
        var window = reader.Peek();
        var zeros = BitOperations.LeadingZeroCount(window);
        uint gap;
        if (zeros < EscapeLength)
        {
            // Two shifts, since the parameter may be 0.
            var rest = (uint)(window << (zeros + 1) >> 32 >> (32 - parameter));
            gap = ((uint)zeros << parameter) | rest;
            reader.Skip(zeros + 1 + parameter);
        }
        else
        {
            reader.Skip(EscapeLength);
            gap = (uint)reader.Read(GapBits);
        }

        model.Add(gap);
        return gap;
    }

    /// <summary>The running mean of the gaps and the parameter that suits it.</summary>
    private struct GapModel
    {
        /// <summary>How many gaps what is expected at the start counts for.</summary>
        private const int InitialWeight = 8;

        /// <summary>When so many have been counted, all so far count half: the mean follows the last few dozen.</summary>
        private const int Window = 64;

        private long sum;
        private long count;

        /// <summary>12 · sum + 6 · count, and 25 · count · 2^r: kept, since most gaps only add to them.</summary>
        private long wanted, have;

        public GapModel(int coordinates, int total)
        {
            var listed = CountListed(coordinates, total);
            sum = InitialWeight * ((long)(total - listed) / (listed + 1));
            count = InitialWeight;
            Start();
        }

        /// <summary>The number of low bits that are written as they are, 0 to 31: r.</summary>
        public int Parameter { get; private set; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Add(uint gap)
        {
            sum += gap;
            wanted += (12L * gap) + 6;
            have += 25L << Parameter;
            if (++count == Window)
            {
                sum >>= 1;
                count >>= 1;
                Start();
                return;
            }

            Adapt();
        }

        private void Start()
        {
            wanted = (12 * sum) + (6 * count);
            have = 25 * count << Parameter;
            Adapt();
        }

        /// <summary>
        /// The smallest parameter r with 2^r · 25/12 ≥ mean + ½: the next smaller one costs more as soon as (mean / (mean + 1))^(2^r)
        /// passes 0.618 (Gallager and Van Voorhis 1975).
        /// </summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private void Adapt()
        {
            for (; have < wanted; have <<= 1) Parameter++;
            for (; have >> 1 >= wanted && Parameter > 0; have >>= 1) Parameter--;
        }
    }
}
