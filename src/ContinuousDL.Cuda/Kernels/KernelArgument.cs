using System.Runtime.InteropServices;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>An argument of a kernel: a number, or a part of the device's memory.</summary>
/// <remarks>
/// A kernel takes a view as 16 bytes: the address, then the number of elements (not of bytes), 64 bits each; and a number as 4.
/// The driver reads just these from where an argument starts, so the two fields come first, in this order.
/// </remarks>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct KernelArgument
{
    private readonly long first;
    private readonly long length;
    private readonly bool isView;

    private KernelArgument(long first, long length, bool isView) => (this.first, this.length, this.isView) = (first, length, isView);

    /// <summary>The address of a view, or the bits of a number.</summary>
    public long First => first;

    /// <summary>The number of elements of a view.</summary>
    public long Length => length;

    /// <summary>Whether this is a view.</summary>
    public bool IsView => isView;

    /// <summary>A part of memory.</summary>
    /// <param name="address">The address on the device.</param>
    /// <param name="length">The number of elements.</param>
    public static KernelArgument View(nint address, long length) => new(address, length, true);

    /// <summary>A part of this view.</summary>
    /// <param name="start">Its first element.</param>
    /// <param name="count">The number of its elements.</param>
    /// <param name="size">The size of an element in bytes.</param>
    public KernelArgument Part(long start, long count, int size) => new(first + (start * size), count, true);

    public static implicit operator KernelArgument(int value) => new((uint)value, 0, false);

    public static implicit operator KernelArgument(float value) => BitConverter.SingleToInt32Bits(value);
}
