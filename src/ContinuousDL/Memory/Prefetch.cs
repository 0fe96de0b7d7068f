using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace ContinuousDL.Memory;

/// <summary>Asks for memory ahead of its use, where the processor has an instruction for that.</summary>
internal static unsafe class Prefetch
{
    /// <summary>Begins to load the cache line of a value, without waiting for it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Of<T>(ref T value)
        where T : unmanaged
    {
        // Should the collector move the value meanwhile, another line is loaded in vain.
        if (Sse.IsSupported) Sse.Prefetch0(Unsafe.AsPointer(ref value));
    }
}
