using ContinuousDL.Replication;

namespace ContinuousDL.History;

/// <summary>Options of an <see cref="InMemorySampleHistory"/>.</summary>
public sealed class InMemorySampleHistoryOptions
{
    /// <summary>
    /// The most samples that are kept. When there are more, the oldest go. A smaller value takes less memory, and forgets sooner.
    /// </summary>
    /// <value>Default: null, which keeps all samples.</value>
    [LongRange(1, long.MaxValue)]
    public long? Capacity { get; set; }

    /// <summary>
    /// The most bytes that are allocated at once for samples to come, unless a single sample takes more. A larger value makes
    /// fewer and larger allocations; a smaller one leaves less memory unused and lets that of forgotten samples go sooner.
    /// </summary>
    /// <value>Default: 32 MiB. From 1 byte to 1 TiB.</value>
    [LongRange(1, 1L << 40)]
    public long MaximumChunkBytes { get; set; } = 32L << 20;
}
