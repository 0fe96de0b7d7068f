using System.Runtime.InteropServices;
using ContinuousDL.Cuda.Kernels;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Memory for queues whose device is the processor.</summary>
internal static unsafe class MainMemory
{
    public static HostMemory Allocate(long bytes) => new((nint)NativeMemory.AlignedAlloc((nuint)bytes, 64), bytes, address => NativeMemory.AlignedFree((void*)address));
}
