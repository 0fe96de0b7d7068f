using System.Runtime.InteropServices;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>
/// Main memory that a device copies from and to by itself. A copy of other memory makes the host wait, or goes through memory of
/// this kind.
/// </summary>
internal sealed unsafe class HostMemory : SafeHandle
{
    private readonly Action<nint> free;

    /// <summary>Takes memory over.</summary>
    /// <param name="address">Where it starts, at a multiple of 16.</param>
    /// <param name="length">The number of bytes.</param>
    /// <param name="free">Gives it back. Throws nothing; may be called by any thread.</param>
    public HostMemory(nint address, long length, Action<nint> free)
        : base(0, ownsHandle: true)
    {
        (Length, this.free) = (length, free);
        SetHandle(address);
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>The number of bytes.</summary>
    public long Length { get; }

    /// <summary>The address of the first byte.</summary>
    public nint Address => IsClosed ? throw new ObjectDisposedException(nameof(HostMemory)) : handle;

    /// <summary>A part, as elements.</summary>
    /// <param name="start">The first byte, a multiple of the element's size.</param>
    /// <param name="count">The number of elements.</param>
    /// <typeparam name="T">Their type.</typeparam>
    public Span<T> Part<T>(long start, int count)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start + ((long)count * sizeof(T)), Length);
        return new Span<T>((byte*)Address + start, count);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        free(handle);
        return true;
    }
}
