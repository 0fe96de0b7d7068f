namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>The ways to bring a replica to the newest state.</summary>
/// <param name="Head">The sequence of that state.</param>
/// <param name="Since">The updates since the replica's state; null where they can't be had.</param>
/// <param name="SnapshotSequence">The sequence of the newest snapshot.</param>
/// <param name="SnapshotPath">Its file.</param>
/// <param name="SnapshotBytes">The size of that.</param>
/// <param name="Rest">The updates since the snapshot.</param>
internal sealed record CatchUpPlan(
    long Head, List<SegmentRange>? Since, long SnapshotSequence, string SnapshotPath, long SnapshotBytes, List<SegmentRange> Rest)
{
    /// <summary>How often to look again after a file that was to be read had been removed by compaction.</summary>
    public const int Attempts = 10;

    /// <summary>Bytes that the snapshot and the updates after it take.</summary>
    public long BytesFromSnapshot => SnapshotBytes + Rest.Sum(s => s.Bytes);

    /// <summary>Whether a file was removed between the plan and the reading.</summary>
    public static bool IsRemoved(Exception e) => e is FileNotFoundException or DirectoryNotFoundException;
}
