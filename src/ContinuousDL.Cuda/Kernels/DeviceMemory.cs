using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>The memory behind tensors, on any device.</summary>
internal static class DeviceMemory
{
    /// <summary>The address of a contiguous tensor's first element; valid as long as the tensor keeps its storage.</summary>
    /// <param name="tensor">The tensor, of float32, int32 or int64: TorchSharp gives the address for no 16-bit dtype. Stays the caller's.</param>
    /// <exception cref="ArgumentException">It is not contiguous, or of another dtype.</exception>
    public static nint AddressOf(Tensor tensor)
    {
        if (!tensor.is_contiguous()) throw new ArgumentException($"The tensor of shape [{string.Join(", ", tensor.shape)}] is not contiguous; call contiguous() on it.", nameof(tensor));

        // TorchSharp makes an alias and says nothing of it; the scope disposes of it.
        using var scope = NewDisposeScope();
        torch.Storage start = tensor.dtype switch
        {
            ScalarType.Float32 => tensor.storage<float>(),
            ScalarType.Int32 => tensor.storage<int>(),
            ScalarType.Int64 => tensor.storage<long>(),
            _ => throw new ArgumentException($"The tensor is {tensor.dtype}; float32, int32 or int64 is needed.", nameof(tensor)),
        };
        return start.data_ptr() + (nint)(tensor.storage_offset() * tensor.element_size());
    }

    /// <summary>All of a contiguous tensor.</summary>
    /// <param name="tensor">The tensor. Stays the caller's.</param>
    /// <exception cref="ArgumentException">As <see cref="AddressOf"/>.</exception>
    public static KernelArgument View(Tensor tensor) => KernelArgument.View(AddressOf(tensor), tensor.numel());

    /// <summary>A part of a contiguous tensor of 4-byte elements.</summary>
    /// <param name="address">The tensor's address.</param>
    /// <param name="start">The first element.</param>
    /// <param name="length">The number of elements.</param>
    public static KernelArgument Part(nint address, long start, long length) => KernelArgument.View(address + (nint)(4 * start), length);
}
