using static TorchSharp.torch;

namespace ContinuousDL.Evaluation;

/// <summary>Tensors with a class axis, <c>[N, C, d1, ...]</c>, as rows of C values, <c>[N·d1·..., C]</c>.</summary>
internal static class ClassRows
{
    /// <summary>Whether the shape is <c>[N, C, ...]</c> with at least one class.</summary>
    public static bool HasClassAxis(Tensor tensor) => tensor.ndim >= 2 && tensor.size(1) > 0;

    /// <summary>
    /// The rows, in the order of <c>[N, d1, ...]</c>: the tensor itself where it is <c>[N, C]</c>, otherwise tensors of the
    /// caller's dispose scope.
    /// </summary>
    public static Tensor Of(Tensor tensor) =>
        tensor.ndim == 2 ? tensor : tensor.detach().flatten(2).transpose(1, 2).reshape(-1, tensor.size(1));

    /// <summary>Whether one tensor is of the shape of another without its class axis.</summary>
    public static bool IsShapeWithoutClasses(Tensor tensor, Tensor classes)
    {
        if (tensor.ndim != classes.ndim - 1 || tensor.size(0) != classes.size(0)) return false;
        for (var d = 1; d < tensor.ndim; d++)
        {
            if (tensor.size(d) != classes.size(d + 1)) return false;
        }

        return true;
    }

    /// <summary>Whether two tensors are of the same shape.</summary>
    public static bool IsSameShape(Tensor a, Tensor b)
    {
        if (a.ndim != b.ndim) return false;
        for (var d = 0; d < a.ndim; d++)
        {
            if (a.size(d) != b.size(d)) return false;
        }

        return true;
    }

    /// <summary>A shape, for messages.</summary>
    public static string Describe(Tensor tensor) => $"[{string.Join(", ", tensor.shape)}]";
}
