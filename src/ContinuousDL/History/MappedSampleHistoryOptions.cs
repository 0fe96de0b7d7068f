using ContinuousDL.Replication;

namespace ContinuousDL.History;

/// <summary>Options of a <see cref="MappedSampleHistory"/>.</summary>
public sealed class MappedSampleHistoryOptions
{
    /// <summary>
    /// The most samples that are kept. When there are more, the oldest go; their files do when all samples in them have gone.
    /// A smaller value takes less room on disk, and forgets sooner.
    /// </summary>
    /// <value>Default: null, which keeps all samples.</value>
    [LongRange(1, long.MaxValue)]
    public long? Capacity { get; set; }

    /// <summary>
    /// The size of a file in bytes, unless a single sample takes more: larger makes fewer files and more to check when a
    /// history is opened that was not closed; smaller gives the room of forgotten samples back sooner. A file takes room on
    /// disk as it fills.
    /// </summary>
    /// <value>Default: 64 MiB. From 1 byte to 1 TiB.</value>
    [LongRange(1, 1L << 40)]
    public long SegmentBytes { get; set; } = 64L << 20;

    /// <summary>
    /// Whether every <see cref="ISampleHistory.Append"/> waits until its samples are on the disk, so that they survive a power
    /// loss, too. Samples survive the end of the process, however it comes, in either case.
    /// </summary>
    /// <value>
    /// Default: false. Waiting for the disk takes milliseconds for every batch of arrivals, and the usual crash is that of
    /// a process. Samples get to the disk within the time that the system takes by itself (on Linux about 30 seconds), when
    /// a file is full, at every checkpoint of a trainer, and at <see cref="ISampleHistory.Flush"/>.
    /// </value>
    public bool FlushEachAppend { get; set; }
}
