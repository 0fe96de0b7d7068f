namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>Decides when a log is to have another snapshot, and what of it is to be kept.</summary>
internal sealed class LogRetention(UpdateLogOptions options, TimeProvider timeProvider)
{
    /// <summary>A snapshot is due when the updates since the last one take this many times its bytes: snapshots are then at most a fifth of what is written.</summary>
    private const int BytesPerSnapshotByte = 4;

    public bool IsCompactionDue(RunHistory run) => IsSnapshotDue(run) || OldestKept(run) > run.OldestSnapshot;

    public bool IsSnapshotDue(RunHistory run)
    {
        var (updates, bytes) = (0L, 0L);
        for (var i = run.Segments.Count - 1; i >= 0 && run.Segments[i].End > run.NewestSnapshot; i--)
        {
            var segment = run.Segments[i];
            var covered = segment.CountUpTo(run.NewestSnapshot);
            updates += segment.Records.Count - covered;
            bytes += segment.Length - (covered > 0 ? segment.Records[covered - 1].End : 0);
        }

        return updates >= options.SnapshotInterval || bytes > BytesPerSnapshotByte * run.Snapshots.GetValueAtIndex(run.Snapshots.Count - 1);
    }

    /// <summary>The sequence of the snapshot that is to be the oldest: the newest one before which no limit lets anything be kept.</summary>
    public long OldestKept(RunHistory run)
    {
        if (run.Snapshots.Count == 1) return run.OldestSnapshot;
        var removable = options.KeepUpdates is { } count ? BeforeLast(run, count) : long.MinValue;
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
            var now = timeProvider.GetUtcNow().ToUnixTimeMilliseconds();
            var old = AppendTimes.CountBefore(run.Segments, now, now - (long)age.TotalMilliseconds);
            if (old > 0) removable = Math.Max(removable, run.Segments[old - 1].End);
        }

        var kept = run.OldestSnapshot;
        for (var i = 1; i < run.Snapshots.Count && run.Snapshots.GetKeyAtIndex(i) <= removable; i++) kept = run.Snapshots.GetKeyAtIndex(i);
        return kept;
    }

    /// <summary>The sequence of the state that so many updates follow; none is as old where there are not so many.</summary>
    private static long BeforeLast(RunHistory run, long count)
    {
        for (var i = run.Segments.Count - 1; i >= 0; i--)
        {
            var segment = run.Segments[i];
            if (count <= segment.Records.Count) return segment.SequenceAfter(segment.Records.Count - (int)count);
            count -= segment.Records.Count;
        }

        return long.MinValue;
    }
}
