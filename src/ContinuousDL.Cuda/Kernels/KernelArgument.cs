namespace ContinuousDL.Cuda.Kernels;

/// <summary>An argument of a kernel: a number, or a part of the device's memory.</summary>
/// <remarks>
/// A kernel takes a view as 16 bytes: the address, then the number of elements (not of bytes), 64 bits each; and a number as 4.
/// </remarks>
internal readonly struct KernelArgument
{
    private KernelArgument(long first, long length, bool isView) => (First, Length, IsView) = (first, length, isView);

    /// <summary>The address of a view, or the bits of a number.</summary>
    public long First { get; }

    /// <summary>The number of elements of a view.</summary>
    public long Length { get; }

    /// <summary>Whether this is a view.</summary>
    public bool IsView { get; }

    /// <summary>A part of memory.</summary>
    /// <param name="address">The address on the device.</param>
    /// <param name="length">The number of elements.</param>
    public static KernelArgument View(nint address, long length) => new(address, length, true);

    public static implicit operator KernelArgument(int value) => new((uint)value, 0, false);

    public static implicit operator KernelArgument(float value) => BitConverter.SingleToInt32Bits(value);
}
