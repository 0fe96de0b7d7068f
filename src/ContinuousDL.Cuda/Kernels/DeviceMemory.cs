using ContinuousDL.Memory;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>The memory behind tensors as kernels take it.</summary>
internal static unsafe class DeviceMemory
{
    /// <summary>The address of a contiguous tensor's first element; valid as long as the tensor keeps its storage.</summary>
    /// <param name="tensor">The tensor. Stays the caller's.</param>
    /// <exception cref="ArgumentException">It is not contiguous.</exception>
    public static nint AddressOf(Tensor tensor)
    {
        if (!tensor.is_contiguous()) throw new ArgumentException($"The tensor of shape [{string.Join(", ", tensor.shape)}] is not contiguous; call contiguous() on it.", nameof(tensor));
        return PlaceOf(tensor);
    }

    /// <summary>As <see cref="AddressOf"/>, without a check: whether a tensor that was contiguous still is where it was.</summary>
    /// <param name="tensor">The tensor, which is not disposed. Stays the caller's.</param>
    public static nint PlaceOf(Tensor tensor) => TensorMemory.GetAddress(tensor);

    /// <summary>The elements of a contiguous float32 tensor in main memory; valid as long as the tensor is.</summary>
    /// <param name="tensor">The tensor. Stays the caller's.</param>
    /// <exception cref="ArgumentException">It is not contiguous.</exception>
    public static Span<float> Floats(Tensor tensor) => new((void*)AddressOf(tensor), checked((int)tensor.numel()));

    /// <summary>All of a contiguous tensor.</summary>
    /// <param name="tensor">The tensor. Stays the caller's.</param>
    /// <exception cref="ArgumentException">As <see cref="AddressOf"/>.</exception>
    public static KernelArgument View(Tensor tensor) => KernelArgument.View(AddressOf(tensor), tensor.numel());
}
