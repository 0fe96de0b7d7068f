using System.ComponentModel.DataAnnotations;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>How an <see cref="UpdateLog"/> writes, and what it keeps.</summary>
/// <remarks>
/// An update is removed as soon as one of the limits says so and a snapshot covers it; as snapshots are
/// <see cref="SnapshotInterval"/> updates apart, up to that many more are kept.
/// </remarks>
public sealed class UpdateLogOptions
{
    /// <summary>Whether every append waits until the disk has the update. Without, a crash of the process loses nothing, but one of the machine may lose the newest updates.</summary>
    /// <value>Default: true.</value>
    public bool FlushOnAppend { get; set; } = true;

    /// <summary>
    /// The size in bytes from which on a file of updates is not appended to any more. With 1 each update gets a file of its own,
    /// for storage that can't append: it is written once, from its beginning to its end, under the name that it keeps, and not
    /// opened for writing again. (Snapshots are written under another name and renamed, and the file of the lock must be one that can be locked.)
    /// </summary>
    /// <value>Default: 64 MiB.</value>
    [Range(1, 1 << 30, ErrorMessage = "must be from 1 to 1073741824")]
    public int SegmentBytes { get; set; } = 64 << 20;

    /// <summary>How many updates after a snapshot compaction writes another. More often: less to read at a start, more to write.</summary>
    /// <value>Default: 1,000.</value>
    [Range(1, int.MaxValue, ErrorMessage = "must be at least 1")]
    public int SnapshotInterval { get; set; } = 1000;

    /// <summary>How many updates to keep at most; null for any number.</summary>
    /// <value>Default: 10,000.</value>
    [Range(1, long.MaxValue, ErrorMessage = "must be at least 1, or null")]
    public long? KeepUpdates { get; set; } = 10_000;

    /// <summary>How many bytes of updates to keep at most; null for any number.</summary>
    /// <value>Default: 1 GiB.</value>
    [Range(1, long.MaxValue, ErrorMessage = "must be at least 1, or null")]
    public long? KeepBytes { get; set; } = 1L << 30;

    /// <summary>
    /// How old updates may become; null for any age. The clock may have been wrong for a while: where the times of updates
    /// are not in order, those that are out of it don't count.
    /// </summary>
    /// <value>Default: null.</value>
    [DurationRange("00:00:00.001", "10675199.02:48:05.4775807", ErrorMessage = "must be more than zero, or null")]
    public TimeSpan? KeepAge { get; set; }

    /// <summary>Whether the log compacts itself on a background task, after the appends that make it due. Without, call <see cref="UpdateLog.Compact"/>.</summary>
    /// <value>Default: true.</value>
    public bool CompactAutomatically { get; set; } = true;

    /// <summary>A copy that nobody else changes.</summary>
    internal UpdateLogOptions Copy() => (UpdateLogOptions)MemberwiseClone();
}
