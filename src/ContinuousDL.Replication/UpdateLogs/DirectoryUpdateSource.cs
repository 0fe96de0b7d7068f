using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>
/// Updates from the directory of an <see cref="UpdateLog"/> that another process writes: a shared folder, or a mounted object
/// store. It only reads, takes no locks, and looks again after a while where there is nothing new.
/// </summary>
/// <remarks>
/// A directory has no state of the model to merge updates with: a replica gets each one, or a snapshot and what follows it,
/// whichever takes fewer bytes. Thread-safe.
/// </remarks>
public sealed class DirectoryUpdateSource : IUpdateSource
{
    /// <summary>How often in a row a directory may look incomplete, as it does for a moment while files are added and removed.</summary>
    private const int MaxIncompleteLooks = 10;

    private readonly string directory;
    private readonly TimeSpan pollInterval;
    private readonly TimeProvider timeProvider;
    private readonly Lock sync = new();
    private RunHistory? run;
    private int incompleteLooks;

    /// <summary>Whether a file that was known is gone: then all of the directory must be looked at.</summary>
    private bool isOutdated;

    /// <summary>Makes a source.</summary>
    /// <param name="directory">The log's directory. It may come into being later.</param>
    /// <param name="pollInterval">How long to wait before looking again. Default: 0.2 seconds.</param>
    /// <param name="timeProvider">The clock. Default: the system's.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="pollInterval"/> is not more than zero, or more than a day.</exception>
    public DirectoryUpdateSource(string directory, TimeSpan? pollInterval = null, TimeProvider? timeProvider = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        this.pollInterval = pollInterval ?? TimeSpan.FromMilliseconds(200);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(this.pollInterval, TimeSpan.Zero, nameof(pollInterval));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(this.pollInterval, TimeSpan.FromDays(1), nameof(pollInterval));
        this.directory = Path.GetFullPath(directory);
        this.timeProvider = timeProvider ?? TimeProvider.System;
    }

    /// <inheritdoc />
    /// <exception cref="UpdateLogDamagedException">The log is damaged.</exception>
    public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
    {
        var start = timeProvider.GetTimestamp();
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (TryRead(runId, sequence) is { } batch) return batch;
            if (timeProvider.GetElapsedTime(start) >= UpdateBatch.LongestSilence) return UpdateBatch.Empty;
            await Task.Delay(pollInterval, timeProvider, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Looks once.</summary>
    /// <returns>What is new; null where nothing is, or the directory is just being changed.</returns>
    private UpdateBatch? TryRead(Guid runId, long sequence)
    {
        lock (sync)
        {
            try
            {
                if (TryFollow(runId, sequence, out var next)) return next;
                if (!Refresh()) return null;
                var plan = run!.Plan(runId, sequence);
                if (runId == run.RunId && sequence == plan.Head) return null;
                return plan.Since is { } since && since.Sum(s => s.Bytes) <= plan.BytesFromSnapshot
                    ? Batch(null, since, plan.Head)
                    : Batch(ModelSnapshot.Load(plan.SnapshotPath), plan.Rest, plan.Head);
            }
            catch (IOException e) when (CatchUpPlan.IsRemoved(e))
            {
                // Compaction has removed it meanwhile, and there is a later snapshot now.
                isOutdated = true;
                return null;
            }
            catch (UpdateLogDamagedException)
            {
                // Another look begins from nothing, should the damage have been in what was known of the directory alone.
                run = null;
                throw;
            }
            catch (SnapshotFormatException e)
            {
                throw new UpdateLogDamagedException(run!.SnapshotPath(run.NewestSnapshot), 0, e.Message, e);
            }
        }
    }

    /// <summary>
    /// Looks only where the next updates must come, which takes the same time however many files there are: enough for a replica
    /// that follows.
    /// </summary>
    /// <returns>Whether that is enough; <paramref name="batch"/> is null then where there is nothing new.</returns>
    private bool TryFollow(Guid runId, long sequence, out UpdateBatch? batch)
    {
        batch = null;
        if (isOutdated || run is not { } known || known.RunId != runId || !IsNewest(known)) return false;
        known.Extend();
        if (sequence == known.Head) return true;
        if (!known.Knows(sequence)) return false;

        // Where they take more, there may be a newer snapshot that takes less.
        var since = known.Slice(sequence, known.Head);
        if (since.Sum(s => s.Bytes) > known.Snapshots.GetValueAtIndex(known.Snapshots.Count - 1)) return false;
        batch = Batch(null, since, known.Head);
        return true;
    }

    /// <summary>Whether a run is there, and none that counts instead of it.</summary>
    private bool IsNewest(RunHistory known)
    {
        if (!Directory.Exists(directory)) return false;
        foreach (var other in RunHistory.List(directory))
        {
            if (other.Number == known.Number) return other.Path == known.Path;
            if (other.HasSnapshot()) return false;
        }

        return false;
    }

    private bool Refresh()
    {
        if (!Directory.Exists(directory)) return false;
        var newest = RunHistory.List(directory).FirstOrDefault(r => r.HasSnapshot());
        if (newest is null) return false;
        if (run is null || run.Path != newest.Path) run = newest;
        if (run.Refresh())
        {
            isOutdated = false;
            incompleteLooks = 0;
            return true;
        }

        if (++incompleteLooks < MaxIncompleteLooks) return false;
        var (file, offset) = run.Hole ?? (run.Path, 0);
        throw new UpdateLogDamagedException(file, offset, "updates after the newest snapshot are damaged or missing after this place.");
    }

    private static UpdateBatch Batch(ModelSnapshot? snapshot, List<SegmentRange> slices, long head)
    {
        var messages = new List<UpdateMessage>();
        foreach (var slice in slices) slice.ReadInto(messages);
        return new UpdateBatch { Snapshot = snapshot, Messages = messages, NewestSequence = head };
    }
}
