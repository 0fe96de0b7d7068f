using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.AspNetCore;

/// <summary>
/// Updates of a source, whose snapshots all replicas share: those that start at about the same time start from the same one, and
/// one that was cut off while it got a snapshot can get the rest of it, although the source has gone on.
/// </summary>
/// <remarks>
/// A snapshot is given to one that starts as long as the source leads on from it by updates. It is kept while it is used, and
/// for a while afterwards. Thread-safe.
/// </remarks>
/// <param name="source">Where the updates come from. It stays the caller's.</param>
/// <param name="lifetime">How long a snapshot is kept after its last use, and given to others after its first.</param>
/// <param name="timeProvider">The clock.</param>
internal sealed class SharedSnapshots(IUpdateSource source, TimeSpan lifetime, TimeProvider timeProvider) : IUpdateSource
{
    /// <summary>The most snapshots that nobody uses. A source whose updates are as large as snapshots makes a new one for each replica.</summary>
    private const int MostIdle = 2;

    private readonly Lock sync = new();
    private readonly SemaphoreSlim starting = new(1);

    // The newest one first.
    private readonly List<Kept> kept = [];
    private ITimer? cleaning;

    /// <inheritdoc />
    public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
    {
        if (runId == Guid.Empty && await StartAsync().ConfigureAwait(false) is { } start) return start;
        return Share(await source.ReceiveAsync(runId, sequence, cancellationToken).ConfigureAwait(false));
    }

    /// <summary>Uses a snapshot, which keeps it.</summary>
    /// <param name="snapshot">A snapshot of a batch.</param>
    public Use Acquire(ModelSnapshot snapshot)
    {
        lock (sync)
        {
            var found = kept.Find(k => ReferenceEquals(k.Image.Snapshot, snapshot)) ?? Add(snapshot);
            return new Use(this, found);
        }
    }

    /// <summary>Uses the snapshot of a tag again.</summary>
    /// <param name="tag">Its tag.</param>
    /// <returns>Null where it is not kept any more.</returns>
    public Use? TryAcquire(string tag)
    {
        lock (sync) return kept.Find(k => k.Image.Tag == tag) is { } found ? new Use(this, found) : null;
    }

    /// <summary>A snapshot to start from.</summary>
    /// <returns>Null where there is none yet, and one has to wait for it.</returns>
    /// <remarks>Not to be cancelled: it takes no longer than a look, and who waits for nothing new gets what there is.</remarks>
    private async ValueTask<UpdateBatch?> StartAsync()
    {
        await starting.WaitAsync().ConfigureAwait(false);
        try
        {
            ModelSnapshot? newest;
            lock (sync) newest = kept.Count > 0 && timeProvider.GetElapsedTime(kept[0].Made) < lifetime ? kept[0].Image.Snapshot : null;
            if (newest is null) return await LookAsync(Guid.Empty, 0).ConfigureAwait(false) is { } first ? Share(first) : null;
            var since = await LookAsync(newest.RunId, newest.Sequence).ConfigureAwait(false);
            return since?.Snapshot is null
                ? new UpdateBatch { Snapshot = newest, NewestSequence = Math.Max(newest.Sequence, since?.NewestSequence ?? 0) }.WithHeartbeat(since?.Heartbeat ?? default)
                : Share(since);
        }
        finally
        {
            starting.Release();
        }
    }

    /// <summary>Looks what the source has, without waiting for anything new.</summary>
    /// <returns>Null where there is nothing.</returns>
    private async ValueTask<UpdateBatch?> LookAsync(Guid runId, long sequence)
    {
        using var once = new CancellationTokenSource();
        var looking = source.ReceiveAsync(runId, sequence, once.Token);
        if (!looking.IsCompleted) await once.CancelAsync().ConfigureAwait(false);
        try
        {
            var batch = await looking.ConfigureAwait(false);
            return batch.IsEmpty ? null : batch;
        }
        catch (OperationCanceledException)
        {
            return null;
        }
    }

    /// <summary>Gives a batch the snapshot that others have of the same state.</summary>
    private UpdateBatch Share(UpdateBatch batch)
    {
        if (batch.Snapshot is not { } snapshot) return batch;
        lock (sync)
        {
            var same = kept.Find(k => k.Image.Snapshot is { } s && s.RunId == snapshot.RunId && s.Sequence == snapshot.Sequence
                && s.StateDigest == snapshot.StateDigest && s.IsSigned == snapshot.IsSigned) ?? Add(snapshot);
            return ReferenceEquals(same.Image.Snapshot, snapshot) ? batch
                : new UpdateBatch { Snapshot = same.Image.Snapshot, Messages = batch.Messages, NewestSequence = batch.NewestSequence }.WithHeartbeat(batch.Heartbeat);
        }
    }

    private Kept Add(ModelSnapshot snapshot)
    {
        var added = new Kept(new SnapshotImage(snapshot), timeProvider.GetTimestamp());
        kept.Insert(0, added);
        Clean();
        return added;
    }

    private void Release(Kept used)
    {
        lock (sync)
        {
            used.Users--;
            used.Touched = timeProvider.GetTimestamp();
            Clean();
        }
    }

    /// <summary>Drops what nobody has used for a while, and sees to it that it is done again.</summary>
    private void Clean()
    {
        kept.RemoveAll(k => k.Users == 0 && timeProvider.GetElapsedTime(k.Touched) >= lifetime);
        var idle = kept.Where(k => k.Users == 0).OrderByDescending(k => k.Touched).Skip(MostIdle).ToList();
        kept.RemoveAll(idle.Contains);
        cleaning ??= timeProvider.CreateTimer(
            static state =>
            {
                var self = (SharedSnapshots)state!;
                lock (self.sync) self.Clean();
            },
            this,
            Timeout.InfiniteTimeSpan,
            Timeout.InfiniteTimeSpan);
        if (kept.Count > 0) cleaning.Change(lifetime, Timeout.InfiniteTimeSpan);
    }

    /// <summary>A use of a snapshot. Dispose it when done.</summary>
    public sealed class Use : IDisposable
    {
        private readonly SharedSnapshots owner;
        private Kept? used;

        internal Use(SharedSnapshots owner, Kept used)
        {
            (this.owner, this.used) = (owner, used);
            Image = used.Image;
            used.Users++;
        }

        /// <summary>The bytes of the snapshot.</summary>
        public SnapshotImage Image { get; }

        /// <summary>Ends the use.</summary>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref used, null) is { } ended) owner.Release(ended);
        }
    }

    /// <summary>A snapshot that is kept.</summary>
    internal sealed class Kept(SnapshotImage image, long made)
    {
        public SnapshotImage Image { get; } = image;

        public long Made { get; } = made;

        /// <summary>When it was used last.</summary>
        public long Touched { get; set; } = made;

        /// <summary>How many use it.</summary>
        public int Users { get; set; }
    }
}
