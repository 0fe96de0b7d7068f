using System.Numerics;
using System.Runtime.CompilerServices;

namespace ContinuousDL.Randomness;

/// <summary>
/// A seeded random generator whose state can be saved, which <see cref="Random"/> does not offer: xoshiro256**
/// (Blackman and Vigna 2021), seeded through SplitMix64.
/// </summary>
/// <remarks>The same seed gives the same numbers on every platform. Not thread-safe, and not for secrets.</remarks>
public sealed class RandomSource
{
    private ulong s0, s1, s2, s3;

    /// <summary>Makes a generator.</summary>
    /// <param name="seed">Any number.</param>
    public RandomSource(ulong seed)
    {
        s0 = SplitMix(ref seed);
        s1 = SplitMix(ref seed);
        s2 = SplitMix(ref seed);
        s3 = SplitMix(ref seed);
    }

    /// <summary>64 random bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong NextUInt64()
    {
        var result = BitOperations.RotateLeft(s1 * 5, 7) * 9;
        var t = s1 << 17;
        s2 ^= s0;
        s3 ^= s1;
        s1 ^= s2;
        s0 ^= s3;
        s2 ^= t;
        s3 = BitOperations.RotateLeft(s3, 45);
        return result;
    }

    /// <summary>A number in [0, <paramref name="bound"/>), every one equally likely (Lemire 2019).</summary>
    /// <param name="bound">One more than the largest number, at least 1; with 0 the result is 0.</param>
    public ulong NextBelow(ulong bound)
    {
        var high = Math.BigMul(NextUInt64(), bound, out var low);
        if (low < bound)
        {
            var threshold = (0 - bound) % bound;
            while (low < threshold) high = Math.BigMul(NextUInt64(), bound, out low);
        }

        return high;
    }

    /// <summary>A number in [0, <paramref name="bound"/>), every one equally likely.</summary>
    /// <param name="bound">One more than the largest number: at least 1, or <see cref="long.MinValue"/>, which stands for 2^63.</param>
    public long NextBelow(long bound) => (long)NextBelow((ulong)bound);

    /// <summary>A number in [0, 1), a multiple of 2^-53.</summary>
    public double NextDouble() => (NextUInt64() >> 11) * (1.0 / (1ul << 53));

    /// <summary>A number in (0, 1], a multiple of 2^-53: safe to take the logarithm of.</summary>
    public double NextDoubleAboveZero() => ((NextUInt64() >> 11) + 1) * (1.0 / (1ul << 53));

    /// <summary>Puts the items in a random order, every order equally likely (Fisher and Yates).</summary>
    /// <typeparam name="T">The type of the items.</typeparam>
    /// <param name="items">The items.</param>
    public void Shuffle<T>(Span<T> items)
    {
        for (var i = items.Length - 1; i > 0; i--)
        {
            var j = (int)NextBelow(i + 1L);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }

    /// <summary>Writes the state, 32 bytes.</summary>
    /// <param name="writer">Where to write it. Stays open.</param>
    public void Save(BinaryWriter writer)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.Write(s0);
        writer.Write(s1);
        writer.Write(s2);
        writer.Write(s3);
    }

    /// <summary>Takes up a state that <see cref="Save"/> wrote: the numbers that follow are those that would have followed then.</summary>
    /// <param name="reader">Where to read it from. Stays open.</param>
    /// <exception cref="InvalidDataException">The state is all zero, or cut short. The generator is as it was.</exception>
    public void Load(BinaryReader reader)
    {
        ArgumentNullException.ThrowIfNull(reader);
        try
        {
            var (a, b, c, d) = (reader.ReadUInt64(), reader.ReadUInt64(), reader.ReadUInt64(), reader.ReadUInt64());
            if ((a | b | c | d) == 0) throw new InvalidDataException("The state of a random generator is never all zero.");
            (s0, s1, s2, s3) = (a, b, c, d);
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException("The state of a random generator is cut short.", e);
        }
    }

    /// <summary>Makes a generator of what <see cref="Save"/> wrote.</summary>
    /// <exception cref="InvalidDataException">As for <see cref="Load"/>.</exception>
    public static RandomSource Read(BinaryReader reader)
    {
        var random = new RandomSource(0);
        random.Load(reader);
        return random;
    }

    private static ulong SplitMix(ref ulong state)
    {
        var z = state += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
}
