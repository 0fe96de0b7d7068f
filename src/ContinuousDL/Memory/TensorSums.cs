using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Memory;

/// <summary>Sums of tensors.</summary>
/// <remarks>
/// TorchSharp's <c>add</c> of two tensors makes a factor of 1 that can be finalized while native code still reads it: the sum then
/// fails, or has another factor. This one stays.
/// </remarks>
internal static class TensorSums
{
    private static readonly Scalar One = 1.ToScalar();

    /// <summary>a + b, owned by the caller.</summary>
    public static Tensor Plus(this Tensor a, Tensor b) => a.add(b, One);

    /// <summary>Adds b to a, in place.</summary>
    /// <returns>a.</returns>
    public static Tensor AddInPlace(this Tensor a, Tensor b) => a.add_(b, One);
}
