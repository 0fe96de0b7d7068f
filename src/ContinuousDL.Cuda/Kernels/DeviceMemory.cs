using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>The memory behind tensors, on any device and of any dtype.</summary>
internal static unsafe partial class DeviceMemory
{
    /// <summary>The address of a contiguous tensor's first element; valid as long as the tensor keeps its storage.</summary>
    /// <param name="tensor">The tensor. Stays the caller's.</param>
    /// <exception cref="ArgumentException">It is not contiguous.</exception>
    public static nint AddressOf(Tensor tensor)
    {
        if (!tensor.is_contiguous()) throw new ArgumentException($"The tensor of shape [{string.Join(", ", tensor.shape)}] is not contiguous; call contiguous() on it.", nameof(tensor));
        var address = PlaceOf(tensor);
        torch.CheckForErrors();
        return address;
    }

    /// <summary>As <see cref="AddressOf"/>, without a check: whether a tensor that was contiguous still is where it was.</summary>
    /// <param name="tensor">The tensor, which is not disposed. Stays the caller's.</param>
    public static nint PlaceOf(Tensor tensor)
    {
        var address = THSTensor_data(tensor.Handle);
        GC.KeepAlive(tensor);
        return address;
    }

    /// <summary>All of a contiguous tensor.</summary>
    /// <param name="tensor">The tensor. Stays the caller's.</param>
    /// <exception cref="ArgumentException">As <see cref="AddressOf"/>.</exception>
    public static KernelArgument View(Tensor tensor) => KernelArgument.View(AddressOf(tensor), tensor.numel());

    /// <summary>
    /// TorchSharp's own way to a tensor's memory, <c>storage&lt;T&gt;().data_ptr()</c>, makes a tensor at every call and knows no
    /// 16-bit dtype; the function below it, of the library's native part, has neither fault.
    /// </summary>
    [LibraryImport("LibTorchSharp")]
    private static partial nint THSTensor_data(nint tensor);
}
