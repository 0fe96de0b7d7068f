using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace ContinuousDL.Replication.Models;

/// <summary>
/// The digest of a model's state: the wrapping 64-bit sum, over all coordinates, of a hash of the coordinate and the bits of
/// its value. A change of k coordinates changes the sum by k subtractions and k additions.
/// </summary>
/// <remarks>
/// The hash is Mix(Mix((i + 1) · G) + bits · C) with Mix the finalizer of SplitMix64 (Steele, Lea and Flood 2014): the
/// inner one gives every coordinate an offset of its own, so that equal values in different places don't cancel out. It finds
/// accidents, not attacks. Eight hashes at once where the processor multiplies vectors of 64-bit numbers.
/// </remarks>
public static class StateDigest
{
    private const ulong Golden = 0x9e3779b97f4a7c15;
    private const ulong ValueFactor = 0xd6e8feb86659fd93;

    /// <summary>The part of the digest that comes from one coordinate.</summary>
    /// <param name="coordinate">The coordinate.</param>
    /// <param name="bits">The bits of its value, zero-extended.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Hash(int coordinate, ulong bits) => Mix(Mix(((ulong)coordinate + 1) * Golden) + (bits * ValueFactor));

    /// <summary>The change of the digest when a coordinate changes its value.</summary>
    /// <param name="coordinate">The coordinate.</param>
    /// <param name="oldBits">The bits of its value before, zero-extended.</param>
    /// <param name="newBits">The bits of its value after, zero-extended.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Change(int coordinate, ulong oldBits, ulong newBits)
    {
        var offset = Mix(((ulong)coordinate + 1) * Golden);
        return Mix(offset + (newBits * ValueFactor)) - Mix(offset + (oldBits * ValueFactor));
    }

    /// <summary>The change of the digest when coordinates of one tensor change their values.</summary>
    /// <param name="entry">The tensor.</param>
    /// <param name="coordinates">The coordinates.</param>
    /// <param name="old">Their values before, packed.</param>
    /// <param name="values">Their values after, packed.</param>
    public static ulong Change(LayoutEntry entry, ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> old, ReadOnlySpan<byte> values)
    {
        var sum = 0ul;
        if (entry.ElementSize == 4)
        {
            var before = MemoryMarshal.Cast<byte, uint>(old)[..coordinates.Length];
            var after = MemoryMarshal.Cast<byte, uint>(values)[..coordinates.Length];
            var done = 0;
            if (Avx512DQ.IsSupported)
            {
                var sums = Vector512<ulong>.Zero;
                for (; done <= coordinates.Length - Vector512<ulong>.Count; done += Vector512<ulong>.Count)
                {
                    var offset = Offset(Widen(MemoryMarshal.Cast<int, uint>(coordinates[done..])));
                    sums += Hash(offset, Widen(after[done..])) - Hash(offset, Widen(before[done..]));
                }

                sum = Vector512.Sum(sums);
            }

            for (; done < coordinates.Length; done++) sum += Change(coordinates[done], before[done], after[done]);
            return sum;
        }

        for (var j = 0; j < coordinates.Length; j++)
        {
            sum += Change(coordinates[j], Scalars.Load(old, j, entry.ElementSize), Scalars.Load(values, j, entry.ElementSize));
        }

        return sum;
    }

    /// <summary>The part of the digest that comes from one whole tensor.</summary>
    /// <param name="entry">The tensor.</param>
    /// <param name="values">All its values in row-major order, as raw bytes.</param>
    public static ulong Sum(LayoutEntry entry, ReadOnlySpan<byte> values) => Sum(entry, 0, values);

    /// <summary>The part of the digest that comes from some of a tensor's values.</summary>
    /// <param name="entry">The tensor.</param>
    /// <param name="first">The element that the values begin with.</param>
    /// <param name="values">The values in row-major order, as raw bytes of whole elements.</param>
    public static ulong Sum(LayoutEntry entry, int first, ReadOnlySpan<byte> values)
    {
        var sum = 0ul;
        var start = entry.Offset + first;
        if (entry.ElementSize == 4)
        {
            var words = MemoryMarshal.Cast<byte, uint>(values);
            var done = 0;
            if (Avx512DQ.IsSupported)
            {
                var sums = Vector512<ulong>.Zero;
                var coordinates = Vector512<ulong>.Indices + Vector512.Create((ulong)start);
                for (; done <= words.Length - Vector512<ulong>.Count; done += Vector512<ulong>.Count)
                {
                    sums += Hash(Offset(coordinates), Widen(words[done..]));
                    coordinates += Vector512.Create((ulong)Vector512<ulong>.Count);
                }

                sum = Vector512.Sum(sums);
            }

            for (; done < words.Length; done++) sum += Hash(start + done, words[done]);
            return sum;
        }

        var count = values.Length / entry.ElementSize;
        for (var i = 0; i < count; i++) sum += Hash(start + i, Scalars.Load(values, i, entry.ElementSize));
        return sum;
    }

    /// <summary>The next 32-bit numbers, widened.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ulong> Widen(ReadOnlySpan<uint> numbers) => Avx512F.ConvertToVector512UInt64(Vector256.Create(numbers));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ulong> Offset(Vector512<ulong> coordinates) => Mix((coordinates + Vector512<ulong>.One) * Golden);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ulong> Hash(Vector512<ulong> offset, Vector512<ulong> bits) => Mix(offset + (bits * ValueFactor));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ulong> Mix(Vector512<ulong> z)
    {
        z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >>> 27)) * 0x94d049bb133111eb;
        return z ^ (z >>> 31);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
}
