using System.Runtime.InteropServices;
using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>
/// Sends every coordinate whose magnitude reaches a threshold, with its value as it is (Strom 2015; Sahu et al. 2021,
/// hard-threshold sparsification). How many that are is up to the vector.
/// </summary>
/// <remarks>
/// A value of exactly zero (of either sign) is never sent. NaN and infinity reach every threshold. Biased, and made for use
/// with an error feedback memory.
/// </remarks>
public sealed class ThresholdCompressor : IGradientCompressor
{
    private readonly int floor;

    /// <summary>Sends every coordinate with |x| ≥ threshold.</summary>
    /// <param name="threshold">The threshold, finite and not negative; 0 sends all that is not zero. Higher: fewer coordinates.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="threshold"/> is out of its range.</exception>
    public ThresholdCompressor(float threshold)
    {
        if (!(threshold is >= 0 and <= float.MaxValue))
        {
            throw new ArgumentOutOfRangeException(nameof(threshold), threshold, "The threshold must be finite and not negative.");
        }

        floor = Math.Max(0, (BitConverter.SingleToInt32Bits(threshold) & MagnitudeScan.Mask) - 1);
    }

    /// <inheritdoc/>
    public void Compress(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result)
    {
        CompressorArguments.CheckVector(vector, layout, result);
        var n = vector.Length;
        var room = Math.Min(n, 1024);
        var (count, passed) = (0, 0);
        while (true)
        {
            result.SetSparse(n, room);
            passed += MagnitudeScan.Collect(
                vector[passed..], passed, floor, result.Indices, MemoryMarshal.Cast<float, int>(result.Values), ref count);
            if (passed == n) break;
            room = (int)Math.Min(n, 2L * room);
        }

        result.SetSparse(n, count);
    }
}
