using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda;

/// <summary>
/// Exact top-k by magnitude with TorchSharp operations, on whatever device the vector is: the same set in the same order as
/// <see cref="Compression.TopKCompressor"/> gives, ties by lower index, zeros never.
/// </summary>
internal static class DeviceTopK
{
    /// <summary>Selects the k largest.</summary>
    /// <param name="vector">The values, float32 <c>[n]</c>. Stays the caller's.</param>
    /// <param name="k">How many, 0 to n.</param>
    /// <returns>Their indices, int64 <c>[m]</c>, ascending, m ≤ k; on the same device; owned by the caller.</returns>
    public static Tensor Select(Tensor vector, int k)
    {
        if (k == 0) return empty(0, dtype: ScalarType.Int64, device: vector.device);
        using var scope = NewDisposeScope();
        using var zero = 0.ToScalar();

        // topk says nothing of which of several equal values it takes, so it only gives the threshold.
        var magnitudes = vector.abs();
        var threshold = magnitudes.topk(k, 0, largest: true, sorted: false).values.min();
        var above = magnitudes.gt(threshold).nonzero().flatten();
        var ties = magnitudes.eq(threshold).logical_and(magnitudes.gt(zero)).nonzero().flatten();
        var rest = Math.Min(k - above.shape[0], ties.shape[0]);
        return cat([above, ties.narrow(0, 0, rest)], 0).sort(0).Values.MoveToOuterDisposeScope();
    }
}
