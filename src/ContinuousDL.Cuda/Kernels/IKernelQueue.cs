namespace ContinuousDL.Cuda.Kernels;

/// <summary>A device's queue of work: what is put into it runs in order, after what torch put into its stream before.</summary>
internal interface IKernelQueue
{
    /// <summary>The number of groups that keep the whole device busy.</summary>
    int FullGrid { get; }

    /// <summary>The number of threads of a group.</summary>
    int GroupSize { get; }

    /// <summary>The number of groups with a thread for each of some elements, or that keep the device busy where those are fewer.</summary>
    /// <param name="elements">The number of elements, at least 1.</param>
    int GroupsFor(int elements) => Math.Min(FullGrid, ((elements - 1) / GroupSize) + 1);

    /// <summary>Runs a kernel.</summary>
    /// <param name="kernel">Its name in <see cref="KernelCatalog.Kernels"/>.</param>
    /// <param name="groups">The number of groups, at least 1.</param>
    /// <param name="arguments">The arguments, in the order of the method's parameters.</param>
    void Launch(string kernel, int groups, ReadOnlySpan<KernelArgument> arguments);

    /// <summary>Takes main memory for copies.</summary>
    /// <param name="bytes">The number of bytes, at least 1.</param>
    /// <returns>The memory, which is the caller's.</returns>
    HostMemory AllocateHost(long bytes);

    /// <summary>Copies from the device. What is copied is there after <see cref="Synchronize"/>, and must stay where it is until then.</summary>
    /// <param name="target">An address in memory of <see cref="AllocateHost"/>.</param>
    /// <param name="source">An address on the device.</param>
    /// <param name="bytes">The number of bytes.</param>
    void CopyToHost(nint target, nint source, long bytes);

    /// <summary>Copies to the device. What is copied must stay as it is until <see cref="Synchronize"/>.</summary>
    /// <param name="target">An address on the device.</param>
    /// <param name="source">An address in memory of <see cref="AllocateHost"/>.</param>
    /// <param name="bytes">The number of bytes.</param>
    void CopyToDevice(nint target, nint source, long bytes);

    /// <summary>Waits until all that was put in is done.</summary>
    void Synchronize();
}
