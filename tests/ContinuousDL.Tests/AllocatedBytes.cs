namespace ContinuousDL.Tests;

/// <summary>Counts managed memory, for tests of code that allocates none in the steady state.</summary>
internal static class AllocatedBytes
{
    /// <summary>The bytes that a run allocates on the calling thread: the median of three runs.</summary>
    /// <remarks>
    /// The runtime hands out memory in pieces of 8 KiB and now and then counts the unused rest of a piece as allocated (see
    /// dotnet/runtime#13502). Code that allocates does so in every run.
    /// </remarks>
    /// <param name="run">What is measured, after the caller has run it often enough to be in the steady state.</param>
    public static long OfRun(Action run)
    {
        Span<long> bytes = stackalloc long[3];
        foreach (ref var ofRun in bytes)
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            run();
            ofRun = GC.GetAllocatedBytesForCurrentThread() - before;
        }

        bytes.Sort();
        return bytes[1];
    }
}
