using static TorchSharp.torch;

namespace ContinuousDL.Memory;

/// <summary>The memory behind CPU tensors.</summary>
internal static unsafe class TensorMemory
{
    /// <summary>
    /// The address of a CPU tensor's first element, of any dtype, size and strides; null when it has no elements.
    /// Valid as long as the tensor keeps its storage.
    /// </summary>
    public static byte* AddressOf(Tensor tensor)
    {
        if (tensor.numel() == 0) return null;

        // Tensor.bytes refuses what is not contiguous or takes over 2 GiB; a view of the first element is neither.
        if (tensor.numel() * tensor.element_size() <= int.MaxValue && tensor.is_contiguous()) return AddressOf(tensor.bytes);
        using var first = tensor.as_strided([1], [1], tensor.storage_offset());
        return AddressOf(first.bytes);
    }

    private static byte* AddressOf(Span<byte> nativeMemory)
    {
        fixed (byte* address = nativeMemory) return address;
    }
}
