using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace ContinuousDL.Compression;

/// <summary>
/// Magnitudes as integers, and the pass over a vector that collects the coordinates above one.
/// </summary>
/// <remarks>
/// The bits of a float without its sign, read as an integer, are in the order of the magnitudes: zero (of either sign) is 0,
/// then come denormals, numbers, infinity, and NaN is largest. Comparing them needs no care for NaN and is exact.
/// </remarks>
internal static class MagnitudeScan
{
    /// <summary>The bits of a float that make up its magnitude.</summary>
    public const int Mask = int.MaxValue;

    /// <summary>What one step of the pass looks at: four vectors, so that a single test passes over 64 coordinates.</summary>
    private const int Step = 64;

    /// <summary>
    /// Appends the coordinates whose magnitude is above a floor, in ascending order, until the block ends or the room is
    /// too small to be sure of the next step.
    /// </summary>
    /// <param name="block">The values.</param>
    /// <param name="offset">The coordinate of the first value.</param>
    /// <param name="floor">The magnitude to be above: 0 or more.</param>
    /// <param name="indices">Receives the coordinates, from <paramref name="count"/> on.</param>
    /// <param name="values">Receives the values (their bits) likewise; as long as <paramref name="indices"/>.</param>
    /// <param name="count">How many there are in the two; is moved on.</param>
    /// <returns>
    /// How many values of the block were looked at. Less than all only if the room that is left is smaller than 64 and
    /// smaller than the rest of the block.
    /// </returns>
    public static int Collect(ReadOnlySpan<float> block, int offset, int floor, Span<int> indices, Span<int> values, ref int count)
    {
        var bits = MemoryMarshal.Cast<float, int>(block);
        var capacity = Math.Min(indices.Length, values.Length);
        ref var source = ref MemoryMarshal.GetReference(bits);
        ref var indexTarget = ref MemoryMarshal.GetReference(indices);
        ref var valueTarget = ref MemoryMarshal.GetReference(values);
        var magnitude = Vector512.Create(Mask);
        var floors = Vector512.Create(floor);
        var (i, found) = (0, count);

        for (; i <= bits.Length - Step && found <= capacity - Step; i += Step)
        {
            var above = Above(ref Unsafe.Add(ref source, i), magnitude, floors)
                | (Above(ref Unsafe.Add(ref source, i + 16), magnitude, floors) << 16)
                | (Above(ref Unsafe.Add(ref source, i + 32), magnitude, floors) << 32)
                | (Above(ref Unsafe.Add(ref source, i + 48), magnitude, floors) << 48);
            for (; above != 0; above &= above - 1)
            {
                var j = i + BitOperations.TrailingZeroCount(above);
                Unsafe.Add(ref indexTarget, found) = offset + j;
                Unsafe.Add(ref valueTarget, found) = Unsafe.Add(ref source, j);
                found++;
            }
        }

        if (bits.Length - i < Step && bits.Length - i <= capacity - found)
        {
            for (; i < bits.Length; i++)
            {
                if ((bits[i] & Mask) <= floor) continue;
                indices[found] = offset + i;
                values[found] = bits[i];
                found++;
            }
        }

        count = found;
        return i;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Above(ref int source, Vector512<int> magnitude, Vector512<int> floors) =>
        Vector512.GreaterThan(Vector512.LoadUnsafe(ref source) & magnitude, floors).ExtractMostSignificantBits();
}
