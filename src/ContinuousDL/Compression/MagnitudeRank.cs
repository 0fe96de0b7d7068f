using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using static ContinuousDL.Compression.MagnitudeScan;

namespace ContinuousDL.Compression;

/// <summary>
/// Finds the k-th largest magnitude among some values: a radix selection, linear in their number whatever they are.
/// </summary>
internal sealed class MagnitudeRank
{
    private const int DigitBits = 11;

    /// <summary>Up to this many values a sort is faster than clearing the histogram.</summary>
    private const int SortLimit = 64;

    private readonly int[] histogram = new int[1 << DigitBits];

    /// <summary>Finds the k-th largest.</summary>
    /// <param name="values">The values' bits, at least k and not none.</param>
    /// <param name="k">The rank, from 1.</param>
    /// <param name="scratch">Room for as many values, overwritten. May be <paramref name="values"/> itself.</param>
    /// <returns>
    /// The k-th largest magnitude, and how many values of just this magnitude belong to the k largest when all larger ones do.
    /// </returns>
    public (int Magnitude, int Ties) Find(ReadOnlySpan<int> values, int k, Span<int> scratch)
    {
        while (values.Length > SortLimit)
        {
            // The digit splits the range that the values are in, so that it tells apart even values that lie close together,
            // and three rounds are the most that 31 bits can take.
            var (least, greatest) = Range(values);
            if (least == greatest) return (least, k);
            var shift = Math.Max(0, BitOperations.Log2((uint)(greatest - least)) + 1 - DigitBits);
            var digit = Count(values, least, greatest, shift);
            while (histogram[digit] < k) k -= histogram[digit--];

            // Safe within one array: what is written lies at or before what is read.
            var kept = 0;
            foreach (var value in values)
            {
                scratch[kept] = value;
                kept += ((value & Mask) - least) >> shift == digit ? 1 : 0;
            }

            values = scratch[..kept];
        }

        return FindBySorting(values, k, scratch);
    }

    /// <summary>Finds a magnitude that at least k values are above, and few more: one round of the search for the k-th largest.</summary>
    /// <param name="values">The values' bits, at least k and not none; no zeros.</param>
    /// <param name="k">How many to be above it at least, from 1.</param>
    /// <param name="most">How many may be above it.</param>
    /// <returns>The magnitude; −1 where one round doesn't tell values apart so finely.</returns>
    public int FindFloor(ReadOnlySpan<int> values, int k, int most)
    {
        var (least, greatest) = Range(values);
        var shift = Math.Max(0, BitOperations.Log2((uint)(greatest - least) | 1) + 1 - DigitBits);
        var digit = Count(values, least, greatest, shift);
        var above = histogram[digit];
        while (above < k) above += histogram[--digit];
        return above <= most ? least + (digit << shift) - 1 : -1;
    }

    /// <summary>Counts the values by their digit.</summary>
    /// <returns>The greatest digit.</returns>
    private int Count(ReadOnlySpan<int> values, int least, int greatest, int shift)
    {
        var digit = (greatest - least) >> shift;
        histogram.AsSpan(0, digit + 1).Clear();
        foreach (var value in values) histogram[((value & Mask) - least) >> shift]++;
        return digit;
    }

    private static (int Magnitude, int Ties) FindBySorting(ReadOnlySpan<int> values, int k, Span<int> scratch)
    {
        var sorted = scratch[..values.Length];
        for (var i = 0; i < values.Length; i++) sorted[i] = values[i] & Mask;
        sorted.Sort();
        var place = values.Length - k;
        var ties = 1;
        while (ties < k && sorted[place + ties] == sorted[place]) ties++;
        return (sorted[place], ties);
    }

    private static (int Least, int Greatest) Range(ReadOnlySpan<int> values)
    {
        var (least, greatest) = (Vector512.Create(Mask), Vector512<int>.Zero);
        foreach (var vector in MemoryMarshal.Cast<int, Vector512<int>>(values))
        {
            var magnitudes = vector & Vector512.Create(Mask);
            least = Vector512.Min(least, magnitudes);
            greatest = Vector512.Max(greatest, magnitudes);
        }

        var (low, high) = (Mask, 0);
        for (var i = 0; i < Vector512<int>.Count; i++) (low, high) = (Math.Min(low, least[i]), Math.Max(high, greatest[i]));
        foreach (var value in values[^(values.Length % Vector512<int>.Count)..])
        {
            (low, high) = (Math.Min(low, value & Mask), Math.Max(high, value & Mask));
        }

        return (low, high);
    }
}
