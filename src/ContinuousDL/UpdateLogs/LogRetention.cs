namespace ContinuousDL.UpdateLogs;

/// <summary>Decides when a log is to have another snapshot, and what of it is to be kept.</summary>
internal sealed class LogRetention(UpdateLogOptions options, TimeProvider timeProvider)
{
    /// <summary>A snapshot is due when the updates since the last one take this many times its bytes: snapshots are then at most a fifth of what is written.</summary>
    private const int BytesPerSnapshotByte = 4;

    public bool IsCompactionDue(LogRun run) => IsSnapshotDue(run) || OldestKept(run) > run.OldestSnapshot;

    public bool IsSnapshotDue(LogRun run)
    {
        var since = 0L;
        for (var i = run.Segments.Count - 1; i >= 0 && run.Segments[i].BaseSequence >= run.NewestSnapshot; i--) since += run.Segments[i].Length;
        return run.Head - run.NewestSnapshot >= options.SnapshotInterval
            || since > BytesPerSnapshotByte * run.Snapshots.GetValueAtIndex(run.Snapshots.Count - 1);
    }

    /// <summary>The sequence of the snapshot that is to be the oldest: the newest one before which no limit lets anything be kept.</summary>
    public long OldestKept(LogRun run)
    {
        if (run.Snapshots.Count == 1) return run.OldestSnapshot;
        var removable = options.KeepUpdates is { } count ? run.Head - count : long.MinValue;
        if (options.KeepBytes is { } limit)
        {
            // Down from the newest: the first segment that is too much, and so all before it.
            var bytes = 0L;
            for (var i = run.Segments.Count - 1; i >= 0 && run.Segments[i].End > removable; i--)
            {
                bytes += run.Segments[i].Length;
                if (bytes > limit) removable = Math.Max(removable, run.Segments[i].End);
            }
        }

        if (options.KeepAge is { } age)
        {
            var oldest = timeProvider.GetUtcNow().Subtract(age).ToUnixTimeMilliseconds();
            for (var i = 0; i < run.Segments.Count; i++)
            {
                var segment = run.Segments[i];
                if (segment.Records.Count == 0 || segment.Records[^1].Time >= oldest) break;
                removable = Math.Max(removable, segment.End);
            }
        }

        var kept = run.OldestSnapshot;
        for (var i = 1; i < run.Snapshots.Count && run.Snapshots.GetKeyAtIndex(i) <= removable; i++) kept = run.Snapshots.GetKeyAtIndex(i);
        return kept;
    }
}
