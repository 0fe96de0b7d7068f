using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace ContinuousDL.History;

/// <summary>Access to the bytes of a tensor of any size and dtype.</summary>
internal static unsafe class TensorMemory
{
    /// <summary>The address of a tensor's first element; null when it has none. Valid as long as the tensor's memory is.</summary>
    /// <param name="tensor">A tensor on the CPU. Stays the caller's.</param>
    /// <remarks>
    /// Implementation note: <see cref="Tensor.bytes"/> of the tensor itself fails from 2 GiB on; that of a view of its first
    /// element does not.
    /// </remarks>
    public static byte* Pointer(Tensor tensor)
    {
        if (tensor.NumberOfElements == 0) return null;
        using var first = tensor.as_strided([1], [1], tensor.storage_offset());
        return (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(first.bytes));
    }
}
