using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ContinuousDL.Memory;

/// <summary>
/// Zeroed native memory for a fixed number of elements, aligned to a cache line. Up to <see cref="int.MaxValue"/> elements;
/// pages that are never touched take no physical memory.
/// </summary>
/// <remarks>
/// A span does not keep the memory alive: whoever works on one while nothing else refers to the buffer calls
/// <see cref="GC.KeepAlive"/> on it afterwards. Disposing twice is harmless; the finalizer frees what was not disposed.
/// </remarks>
/// <typeparam name="T">The type of the elements.</typeparam>
internal sealed unsafe class NativeBuffer<T> : IDisposable
    where T : unmanaged
{
    /// <summary>The alignment of the first element in bytes: a cache line, and the widest vector.</summary>
    private const nuint Alignment = 64;

    private readonly T* first;
    private nint block;

    /// <summary>Allocates, all elements zero.</summary>
    /// <param name="length">The number of elements.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="length"/> is negative.</exception>
    /// <exception cref="OutOfMemoryException">There is not that much memory.</exception>
    public NativeBuffer(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        Length = length;

        // Not AlignedAlloc and a clear: that would touch every page, where the system hands out large zeroed blocks untouched.
        block = (nint)NativeMemory.AllocZeroed(((nuint)length * (nuint)sizeof(T)) + Alignment);
        first = (T*)(((nuint)block + Alignment - 1) & ~(Alignment - 1));
    }

    ~NativeBuffer() => Free();

    /// <summary>The number of elements.</summary>
    public int Length { get; }

    /// <summary>All elements.</summary>
    /// <exception cref="ObjectDisposedException">The memory was freed.</exception>
    public Span<T> Span
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            ObjectDisposedException.ThrowIf(block == 0, this);
            return new Span<T>(first, Length);
        }
    }

    /// <summary>Frees the memory.</summary>
    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free() => NativeMemory.Free((void*)Interlocked.Exchange(ref block, 0));
}
