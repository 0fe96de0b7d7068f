using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Memory;

/// <summary>The memory behind tensors, on any device and of any dtype.</summary>
public static unsafe partial class TensorMemory
{
    /// <summary>
    /// The address of a tensor's first element, on the tensor's device and whatever its strides; 0 when it has no elements. Valid
    /// as long as the tensor keeps its storage.
    /// </summary>
    /// <param name="tensor">The tensor. Stays the caller's, who keeps it alive while the address is in use.</param>
    /// <exception cref="ArgumentNullException"><paramref name="tensor"/> is null.</exception>
    /// <exception cref="ObjectDisposedException"><paramref name="tensor"/> is disposed.</exception>
    public static nint GetAddress(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        ObjectDisposedException.ThrowIf(tensor.IsInvalid, tensor);
        return (nint)AddressOf(tensor);
    }

    /// <summary>
    /// The address of a tensor's first element, whatever its strides; null when it has no elements. Valid as long as the tensor
    /// keeps its storage.
    /// </summary>
    /// <param name="tensor">The tensor, not disposed. Stays the caller's.</param>
    internal static byte* AddressOf(Tensor tensor)
    {
        var address = THSTensor_data(tensor.Handle);
        if (address == 0) CheckForErrors();
        GC.KeepAlive(tensor);
        return (byte*)address;
    }

    /// <summary>
    /// TorchSharp's own ways to a tensor's memory make a tensor or a few calls more at every use, and know no 16-bit dtype or
    /// nothing of 2 GiB; this function of the library's native part has none of these faults, and returns within nanoseconds.
    /// </summary>
    [LibraryImport("LibTorchSharp")]
    [SuppressGCTransition]
    private static partial nint THSTensor_data(nint tensor);
}
