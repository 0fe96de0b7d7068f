using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace ContinuousDL.Memory;

/// <summary>
/// Sums over a vector in double precision. Neither can overflow, so a sum is finite exactly if all values are.
/// </summary>
/// <remarks>
/// Implementation note: the order of the additions is that of 16 lanes, whatever the processor's vectors are, so that the
/// result is the same to the last bit on every machine.
/// </remarks>
internal static class VectorSums
{
    /// <summary>Σ x².</summary>
    public static double OfSquares(ReadOnlySpan<float> vector)
    {
        Vector512<double> lower = default, upper = default;
        foreach (var x in MemoryMarshal.Cast<float, Vector512<float>>(vector))
        {
            var (a, b) = Vector512.Widen(x);
            lower += a * a;
            upper += b * b;
        }

        var sum = OfLanes(lower + upper);
        foreach (var x in Tail(vector)) sum += (double)x * x;
        return sum;
    }

    /// <summary>Σ |x|.</summary>
    public static double OfMagnitudes(ReadOnlySpan<float> vector)
    {
        Vector512<double> lower = default, upper = default;
        foreach (var x in MemoryMarshal.Cast<float, Vector512<float>>(vector))
        {
            var (a, b) = Vector512.Widen(Vector512.Abs(x));
            lower += a;
            upper += b;
        }

        var sum = OfLanes(lower + upper);
        foreach (var x in Tail(vector)) sum += Math.Abs((double)x);
        return sum;
    }

    private static double OfLanes(Vector512<double> lanes)
    {
        var sum = 0.0;
        for (var i = 0; i < Vector512<double>.Count; i++) sum += lanes[i];
        return sum;
    }

    private static ReadOnlySpan<float> Tail(ReadOnlySpan<float> vector) => vector[^(vector.Length % Vector512<float>.Count)..];
}
