using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Memory;

/// <summary>Numbers that are in tensors.</summary>
/// <remarks>
/// TorchSharp's conversions of a tensor to a number (<c>ToDouble</c>, <c>ToSingle</c>, ...) go by way of a scalar that can be
/// finalized while native code still reads it. These read the tensor's memory.
/// </remarks>
internal static class TensorNumbers
{
    /// <summary>The number in a tensor of one element, of a real dtype, on any device.</summary>
    public static double SingleNumber(this Tensor tensor)
    {
        if (tensor.dtype == ScalarType.Float32 && tensor.device_type == DeviceType.CPU) return tensor.item<float>();
        using var scope = NewDisposeScope();
        return tensor.detach().cpu().to(ScalarType.Float64).item<double>();
    }
}
