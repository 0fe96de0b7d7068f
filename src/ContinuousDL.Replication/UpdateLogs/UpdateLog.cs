using System.Buffers;
using System.Runtime.InteropServices;
using ContinuousDL.Replication.Storage;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>
/// The updates of a training run on disk, in order and for good: appended by one trainer, read by any number of replicas. It
/// survives crashes, says what brings a replica from any state to the newest one, and can go back to an older state.
/// </summary>
/// <remarks>
/// <para>
/// A directory with snapshots (safetensors) and files of updates. After a crash, what was being written is cut off at the next
/// opening; everything appended before is there. Damage of any other kind is an error that names its place.
/// </para>
/// <para>
/// The log keeps the newest state in memory: every update is checked against it, digest included, before it is written, and
/// merged updates take their values from it. Memory: one copy of the model, and about 32 bytes for each update kept.
/// </para>
/// <para>There is one writer at a time; other processes read with <see cref="DirectoryUpdateSource"/>. Thread-safe.</para>
/// </remarks>
/// <example>
/// <code>
/// using var log = UpdateLog.Open("updates");
/// if (log.Head?.RunId != trainer.Deployed.RunId) log.WriteSnapshot(trainer.CreateSnapshot());
/// ...
/// using var result = trainer.Step();
/// log.Append(result.Update!);
/// </code>
/// </example>
public sealed class UpdateLog : IUpdateTransport, IDisposable
{
    private const string LockFile = "writer.lock";

    /// <summary>Updates that take more than this many times the bytes of a snapshot are not merged: going through them would cost more than the snapshot.</summary>
    private const int MaxMergeRatio = 4;

    private readonly string directory;
    private readonly UpdateLogOptions options;
    private readonly LogRetention retention;
    private readonly UpdateCodec codec;
    private readonly ILogger logger;
    private readonly DirectoryLock writerLock;
    private readonly LogAppender appender;
    private readonly SnapshotWriter snapshots = new();
    private readonly RetryDelay compactionRetry;
    private readonly ArrayBufferWriter<byte> record = new();
    private readonly PublishedHead head = new();
    private readonly Lock sync = new();

    // Taken before sync, and held while files are added and removed, which appending and reading need not wait for.
    private readonly Lock maintenance = new();

    // Files that are to be deleted, in this order even where one can't be for now: at any moment what remains must be a log.
    private readonly Queue<string> removed = new();
    private RunHistory? run;
    private (long From, long To, UpdateMessage Message)? lastMerged;
    private (string Path, WeakReference<ModelSnapshot> Snapshot)? lastSnapshot;
    private readonly ChangeSignal news = new();
    private Task compaction = Task.CompletedTask;
    private bool isCompacting;
    private bool isCompactionDue;
    private volatile Exception? compactionError;

    // Guarded by maintenance.
    private bool hasSnapshotFailed;
    private bool disposed;

    private UpdateLog(string directory, UpdateLogOptions options, UpdateCodec codec, ILogger logger, TimeProvider timeProvider, DirectoryLock writerLock)
    {
        this.directory = directory;
        this.options = options;
        retention = new LogRetention(options, timeProvider);
        this.codec = codec;
        this.logger = logger;
        this.writerLock = writerLock;
        appender = new LogAppender(options, timeProvider);
        compactionRetry = new RetryDelay(timeProvider);
    }

    /// <summary>The newest state; null until the log has its first snapshot.</summary>
    public NewestState? Head
    {
        get
        {
            lock (sync) return head.State is { } state ? new NewestState(state.RunId, state.Sequence, state.Digest) : null;
        }
    }

    /// <summary>The oldest sequence whose state can still be had from <see cref="StateAt"/>; null while <see cref="Head"/> is.</summary>
    public long? OldestSequence
    {
        get
        {
            lock (sync) return run?.OldestSnapshot;
        }
    }

    /// <summary>How many bytes of an unfinished update were cut off when the log was opened: more than 0 after a crash in the middle of an append.</summary>
    public long BytesCut { get; private set; }

    /// <summary>
    /// Why the last compaction in the background failed; null where it didn't. Appending goes on, and it is tried again with an
    /// append after a second, or after twice as long as the last time, up to five minutes.
    /// </summary>
    public Exception? CompactionError => compactionError;

    /// <summary>Opens a log for writing, or makes a new one.</summary>
    /// <param name="directory">The directory. It may be missing; its parent may too.</param>
    /// <param name="options">How to write and what to keep. Default: as the options say.</param>
    /// <param name="codec">Makes and reads the messages. Default: one with default options.</param>
    /// <param name="logger">Is told what was cut off and what failed in the background. Default: nobody.</param>
    /// <param name="timeProvider">The clock. Default: the system's.</param>
    /// <exception cref="ArgumentException">An option is out of range; the message names it.</exception>
    /// <exception cref="UpdateLogInUseException">The log has a writer already, in this process or another.</exception>
    /// <exception cref="UpdateLogDamagedException">The log is damaged, in another way than a crash can do it.</exception>
    /// <exception cref="IOException">The directory can't be read or written, or not be locked against a second writer; the message says which.</exception>
    public static UpdateLog Open(
        string directory, UpdateLogOptions? options = null, UpdateCodec? codec = null, ILogger<UpdateLog>? logger = null, TimeProvider? timeProvider = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        options = OptionsValidator.Validate(options ?? new UpdateLogOptions(), nameof(options)).Copy();
        directory = Path.GetFullPath(directory);
        Directory.CreateDirectory(directory);
        var log = new UpdateLog(
            directory, options, codec ?? new UpdateCodec(), logger ?? NullLogger<UpdateLog>.Instance, timeProvider ?? TimeProvider.System,
            DirectoryLock.TryTake(directory, LockFile) ?? throw new UpdateLogInUseException(directory));
        try
        {
            log.Load();
            return log;
        }
        catch
        {
            log.Dispose();
            throw;
        }
    }

    /// <summary>Appends an update. When this returns, it is in the log, and on disk if <see cref="UpdateLogOptions.FlushOnAppend"/> says so.</summary>
    /// <param name="update">The update from the newest state to a later one, whichever sequence that has. It stays the caller's.</param>
    /// <returns>True; false where the log has exactly this update already, and nothing was done.</returns>
    /// <exception cref="ModelMismatchException">The update is for another architecture.</exception>
    /// <exception cref="RunMismatchException">The update is of another run. Write a snapshot of that run first.</exception>
    /// <exception cref="UpdateGapException">Updates before this one are missing.</exception>
    /// <exception cref="UpdateConflictException">The log has another update under this sequence, has left it out, or can't tell any more.</exception>
    /// <exception cref="ReplicaDivergedException">The update doesn't lead from the newest state to the state that its digest is of.</exception>
    /// <exception cref="InvalidOperationException">The log has no snapshot yet.</exception>
    /// <exception cref="IOException">
    /// It could not be written. Where the disk is full, the log is as it was, and the update can be appended again. After any other
    /// failure, one of flushing included, this and all later calls fail: the log must be opened again.
    /// </exception>
    public bool Append(ModelUpdate update)
    {
        ArgumentNullException.ThrowIfNull(update);
        lock (sync)
        {
            ThrowIfUnusable();
            if (!head.LeadsOn(update))
            {
                ThrowIfAnother(update);
                return false;
            }

            var state = head.Required;
            var digest = state.DigestAfter(update);
            record.ResetWrittenCount();
            record.GetSpan(LogRecord.HeaderBytes);
            record.Advance(LogRecord.HeaderBytes);
            codec.Encode(update, record);
            WriteRecord(update.Sequence);
            state.Write(update, digest);
            Announce();
            if (options.CompactAutomatically && !compactionRetry.IsWaiting && retention.IsCompactionDue(run!)) CompactInBackground();
            return true;
        }
    }

    /// <summary>Waits until the disk has all that was appended; needed only without <see cref="UpdateLogOptions.FlushOnAppend"/>.</summary>
    /// <exception cref="IOException">The disk failed, now or at an earlier call: the log must be opened again.</exception>
    public void Flush()
    {
        lock (sync)
        {
            ThrowIfUnusable();
            appender.Flush();
        }
    }

    /// <summary>
    /// Adds a snapshot: the first one of a run, from which on updates can be appended, or one of the newest state. One of another
    /// run, or of a later state than the log's, starts the log anew; what was there before is kept until the next compaction.
    /// </summary>
    /// <param name="snapshot">The state.</param>
    /// <exception cref="ArgumentException">It is of no run.</exception>
    /// <exception cref="UpdateConflictException">It is of an earlier state of the log's run, or another state under the same sequence.</exception>
    /// <exception cref="IOException">It could not be written.</exception>
    public void WriteSnapshot(ModelSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        lock (maintenance)
        {
            AddSnapshot(() =>
            {
                if (!head.IsStart(snapshot)) return run!.NewestSnapshot == snapshot.Sequence ? null : snapshot;
                StartRun(snapshot);
                return null;
            });
        }
    }

    /// <summary>A copy of the newest state.</summary>
    /// <exception cref="InvalidOperationException">The log has no snapshot yet.</exception>
    public ModelSnapshot HeadSnapshot()
    {
        lock (sync)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            return head.Required.CreateSnapshot();
        }
    }

    /// <summary>The state at a sequence, made of the snapshot before it and the updates in between.</summary>
    /// <param name="sequence">The sequence, from <see cref="OldestSequence"/> to that of <see cref="Head"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">The log doesn't have that state, or not any more; or never had it, since an update led past it.</exception>
    /// <exception cref="InvalidOperationException">The log has no snapshot yet.</exception>
    /// <exception cref="UpdateLogDamagedException">A snapshot or update on the way is damaged.</exception>
    public ModelSnapshot StateAt(long sequence)
    {
        for (var attempt = 1; ; attempt++)
        {
            string path;
            List<SegmentRange> slices;
            lock (sync)
            {
                ObjectDisposedException.ThrowIf(disposed, this);
                var newest = head.Required;
                if (sequence == newest.Sequence) return newest.CreateSnapshot();
                if (sequence > newest.Sequence || sequence < run!.OldestSnapshot)
                {
                    throw new ArgumentOutOfRangeException(nameof(sequence), sequence, $"The log has the states from {run!.OldestSnapshot} to {newest.Sequence}.");
                }

                if (!run.Knows(sequence) && !run.Snapshots.ContainsKey(sequence)) throw new ArgumentOutOfRangeException(nameof(sequence), sequence, "The log never had that state: an update led past it.");
                var start = run.Snapshots.Keys.Last(s => s <= sequence);
                path = run.SnapshotPath(start);
                slices = run.Slice(start, sequence);
            }

            try
            {
                using var replayed = new PublishedHead();
                replayed.Start(ReadSnapshot(path));
                Replay(replayed.Required, slices);
                return replayed.Required.CreateSnapshot();
            }
            catch (IOException e) when (CatchUpPlan.IsRemoved(e) && attempt < CatchUpPlan.Attempts)
            {
                // The next look tells whether the state can still be had.
            }
        }
    }

    /// <summary>
    /// Goes back to an older state, exactly: appends a new update that restores its values. Replicas follow as with any update.
    /// </summary>
    /// <param name="sequence">The sequence of the state to restore, from <see cref="OldestSequence"/> on.</param>
    /// <returns>The update, owned by the caller. A trainer that is to go on from there must take over that state too.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The log doesn't have that state, or not any more.</exception>
    /// <exception cref="InvalidOperationException">The log has no snapshot yet.</exception>
    /// <exception cref="IOException">It could not be read or written.</exception>
    public ModelUpdate RollBackTo(long sequence)
    {
        var target = StateAt(sequence);
        lock (sync)
        {
            var current = HeadSnapshot();
            var update = ModelUpdate.Between(current, target, current.Sequence + 1);
            try
            {
                Append(update);
                return update;
            }
            catch
            {
                update.Dispose();
                throw;
            }
        }
    }

    /// <summary>
    /// What brings a replica to the newest state, in the fewest bytes: each update since, one update that merges them, or the
    /// newest snapshot and what follows it. A replica of another run, or whose state the log doesn't have, gets a snapshot.
    /// </summary>
    /// <param name="runId">The run that the replica follows; <see cref="Guid.Empty"/> where it has no state to go on from.</param>
    /// <param name="sequence">The sequence of its state.</param>
    /// <returns>The batch; empty where the replica has the newest state.</returns>
    /// <exception cref="UpdateLogDamagedException">A snapshot or update is damaged.</exception>
    public UpdateBatch ReadFrom(Guid runId, long sequence)
    {
        for (var attempt = 1; ; attempt++)
        {
            RunHistory current;
            CatchUpPlan plan;
            lock (sync)
            {
                ObjectDisposedException.ThrowIf(disposed, this);
                if (run is null) return UpdateBatch.Empty;
                current = run;
                plan = run.Plan(runId, sequence);
            }

            try
            {
                // What is far more than a snapshot is not even read: merging would hardly make it smaller than that.
                if (plan.Since is { } since && since.Sum(s => s.Bytes) <= Math.Max(MaxMergeRatio * plan.SnapshotBytes, plan.BytesFromSnapshot))
                {
                    var direct = Read(current, sequence, plan.Head, since, MaxMergeRatio * plan.SnapshotBytes);
                    if (direct.Messages.Sum(m => (long)m.Bytes.Length) <= plan.BytesFromSnapshot) return direct;
                }

                var snapshot = CachedSnapshot(plan.SnapshotPath);
                var rest = Read(current, plan.SnapshotSequence, plan.Head, plan.Rest, MaxMergeRatio * plan.SnapshotBytes);
                return new UpdateBatch { Snapshot = snapshot, Messages = rest.Messages, NewestSequence = rest.NewestSequence };
            }
            catch (IOException e) when (CatchUpPlan.IsRemoved(e) && attempt < CatchUpPlan.Attempts)
            {
                // There is a later snapshot now.
            }
        }
    }

    /// <inheritdoc />
    /// <remarks>As <see cref="ReadFrom"/>, and waits for an update to be appended where there is none.</remarks>
    public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
    {
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Task next;
            bool current;
            lock (sync)
            {
                ObjectDisposedException.ThrowIf(disposed, this);
                current = head.State is not { } state || (runId == state.RunId && sequence == state.Sequence);
                next = news.Next;
            }

            if (!current) return ReadFrom(runId, sequence);
            if (!await ChangeSignal.WaitAsync(next, cancellationToken).ConfigureAwait(false)) return UpdateBatch.Empty;
        }
    }

    /// <inheritdoc />
    /// <remarks>As <see cref="Append"/>, on the calling thread.</remarks>
    public ValueTask PublishAsync(ModelUpdate update, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        Append(update);
        return ValueTask.CompletedTask;
    }

    /// <inheritdoc />
    /// <remarks>As <see cref="WriteSnapshot"/>, on the calling thread.</remarks>
    public ValueTask PublishAsync(ModelSnapshot snapshot, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        WriteSnapshot(snapshot);
        return ValueTask.CompletedTask;
    }

    /// <summary>
    /// Writes a snapshot where one is due, and removes the updates and snapshots that the options don't keep. What is kept
    /// always begins with a snapshot, from which updates lead to the newest state without a gap. Appending and reading go on meanwhile.
    /// </summary>
    /// <exception cref="IOException">A file could not be written or removed. The log is as good as before.</exception>
    public void Compact()
    {
        lock (maintenance)
        {
            AddSnapshot(() => run is not null && retention.IsSnapshotDue(run) ? head.Required.CreateSnapshot() : null);
            if (run is null) return;
            TakeOut();
            while (removed.TryPeek(out var file))
            {
                File.Delete(file);
                removed.Dequeue();
            }

            foreach (var old in RunHistory.List(directory).Where(r => r.Number < run.Number)) old.Delete();
        }
    }

    /// <summary>Waits for a compaction under way, and lets the log go, for another writer to open it.</summary>
    public void Dispose()
    {
        Task running;
        lock (sync)
        {
            if (disposed) return;
            disposed = true;
            running = compaction;
            news.End(new ObjectDisposedException(nameof(UpdateLog)));
        }

        running.Wait();
        lock (maintenance)
        {
            lock (sync)
            {
                try
                {
                    // A fault means that the disk is not to be relied on any more: flushing would only throw from here.
                    if (appender.Fault is null) appender.Flush();
                }
                finally
                {
                    appender.Dispose();
                    head.Dispose();
                    writerLock.Dispose();
                }
            }
        }
    }

    /// <summary>Finds out what the directory has, cuts off what a crash left unfinished, and builds the newest state.</summary>
    private void Load()
    {
        foreach (var folder in RunHistory.List(directory).TakeWhile(r => !r.HasSnapshot()))
        {
            // What a crash left of the start of a run has no updates yet.
            if (folder.HasUpdates()) throw new UpdateLogDamagedException(folder.Path, 0, "it has updates, but no snapshot to start from.");
            folder.Delete();
        }

        run = RunHistory.List(directory).FirstOrDefault(r => r.HasSnapshot());
        if (run is null) return;
        run.DeleteUnfinished();
        var complete = run.Refresh();
        if (!complete || run.OldestBase > run.OldestSnapshot)
        {
            var (file, offset) = run.Hole ?? (run.Segments.Count > 0 ? (run.Segments[^1].Path, run.Segments[^1].Length) : (run.Path, 0));
            throw new UpdateLogDamagedException(file, offset, $"updates between the snapshot {run.OldestSnapshot} and the newest state are damaged or missing after this place.");
        }

        BytesCut = run.UnfinishedBytes;
        if (BytesCut > 0) UpdateLogMessages.LogTailCut(logger, BytesCut, run.Segments[^1].Path, run.Head);
        appender.TakeUp(run);
        head.Start(ReadSnapshot(run.SnapshotPath(run.NewestSnapshot)));
        if (run.Segments.Find(s => s.Fingerprint != head.Required.Layout.Fingerprint) is { } foreign)
        {
            throw new UpdateLogDamagedException(foreign.Path, 0, "its updates are for a model of another architecture than the snapshot's.");
        }

        Replay(head.Required, run.Slice(run.NewestSnapshot, run.Head));
    }

    /// <summary>Starts a folder for another run, or for the same one further on.</summary>
    private void StartRun(ModelSnapshot snapshot)
    {
        var number = RunHistory.List(directory).Select(r => r.Number).FirstOrDefault() + 1;
        var next = RunHistory.Create(directory, number, snapshot.RunId);
        var path = next.SnapshotPath(snapshot.Sequence);
        try
        {
            next.Snapshots.Add(snapshot.Sequence, snapshots.Write(path, codec.Sign(snapshot)));
        }
        catch (Exception e)
        {
            // Were it there in spite of the error, the next opening would go on with it, and not with what is appended meanwhile.
            if (File.Exists(path)) appender.Fail(e);
            throw;
        }

        appender.Release();
        appender.BeginSegment();
        run = next;
        head.Start(snapshot);
        compactionRetry.Succeeded();
        Announce();
        if (options.CompactAutomatically) CompactInBackground();
    }

    /// <summary>Writes the record to the end of the last segment, or to a new one.</summary>
    private void WriteRecord(long sequence)
    {
        // The writer gives its memory out for reading; the room for the header in it was made for being written here.
        var bytes = MemoryMarshal.AsMemory(record.WrittenMemory).Span;
        var fingerprint = head.Required.Layout.Fingerprint;
        try
        {
            appender.Append(run!, fingerprint, bytes, sequence);
        }
        catch (IOException e) when (appender.Fault is null && DiskFull.Is(e) && snapshots.GiveUp())
        {
            appender.Append(run!, fingerprint, bytes, sequence);
        }
    }

    /// <summary>Adds a snapshot of the newest state. The lock of maintenance is held.</summary>
    /// <param name="create">Makes it, while nothing is appended; null where none is wanted.</param>
    private void AddSnapshot(Func<ModelSnapshot?> create)
    {
        ModelSnapshot? snapshot;
        var isRetry = hasSnapshotFailed;
        var startedBefore = false;
        lock (sync)
        {
            ThrowIfUnusable();

            // The updates before a snapshot must be on disk before it is. They end a file, so that they can be removed with it;
            // but of tries that fail, not each is to leave a file behind.
            appender.Flush();
            snapshot = create();
            if (snapshot is null) return;
            if (!isRetry) startedBefore = appender.BeginSegment();
        }

        try
        {
            var bytes = snapshots.Write(run!.SnapshotPath(snapshot.Sequence), codec.Sign(snapshot));
            lock (sync)
            {
                run.Snapshots[snapshot.Sequence] = bytes;
                if (isRetry) appender.BeginSegment();
            }

            hasSnapshotFailed = false;
        }
        catch
        {
            hasSnapshotFailed = true;
            lock (sync)
            {
                if (!isRetry) appender.KeepSegment(startedBefore);
            }

            throw;
        }
    }

    /// <summary>Lets those that wait know of the new head.</summary>
    private void Announce()
    {
        lastMerged = null;
        news.Raise();
    }

    private void ThrowIfUnusable()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (appender.Fault is { } fault) throw new IOException($"An earlier write to the log failed; what is on disk is only known when it is opened again. ({fault.Message})", fault);
    }

    private void ThrowIfAnother(ModelUpdate update)
    {
        if (update.Sequence == head.Required.Sequence) return;
        if (update.Sequence <= run!.OldestBase)
        {
            throw new UpdateConflictException($"Update {update.Sequence} is older than all that the log keeps: it can't tell whether it is the same.", update.Sequence);
        }

        var slice = run.Find(update.Sequence)
            ?? throw new UpdateConflictException($"Update {update.Sequence} is not in the log, which has later ones: one of those led past it.", update.Sequence);
        var messages = new List<UpdateMessage>();
        slice.ReadInto(messages);
        var digest = UpdateCodec.ReadHeader(messages[0].Bytes.Span).StateDigest;
        if (digest != update.StateDigest) throw PublishedHead.Conflict(update, digest);
    }

    /// <summary>Takes what need not be kept out of the index: old snapshots, then the updates before the oldest that stays.</summary>
    private void TakeOut()
    {
        lock (sync)
        {
            var current = run!;
            var kept = retention.OldestKept(current);
            while (current.OldestSnapshot < kept)
            {
                removed.Enqueue(current.SnapshotPath(current.OldestSnapshot));
                current.Snapshots.RemoveAt(0);
            }

            // The one that will be appended to stays.
            while (current.Segments.Count > (appender.BeginsSegment ? 0 : 1) && current.Segments[0].End <= current.OldestSnapshot)
            {
                removed.Enqueue(current.Segments[0].Path);
                current.Segments.RemoveAt(0);
            }

            if (current.Segments.Count == 0) appender.Release();
        }
    }

    /// <summary>Begins a compaction, or has one follow the one under way, which may have missed why it is due. The lock is held.</summary>
    private void CompactInBackground()
    {
        isCompactionDue = true;
        if (isCompacting) return;
        isCompacting = true;
        compaction = Task.Run(() =>
        {
            while (BeginCompaction()) TryCompact();
        });
    }

    private bool BeginCompaction()
    {
        lock (sync)
        {
            isCompacting = isCompactionDue && !disposed && !compactionRetry.IsWaiting;
            isCompactionDue = false;
            return isCompacting;
        }
    }

    private void TryCompact()
    {
        try
        {
            Compact();
            lock (sync) compactionRetry.Succeeded();
            compactionError = null;
        }
        catch (ObjectDisposedException)
        {
            // The log was disposed before it could begin.
        }
        catch (Exception e)
        {
            lock (sync) compactionRetry.Failed();
            compactionError = e;
            UpdateLogMessages.CompactionFailed(logger, e, directory);
        }
    }

    /// <summary>Reads updates, and merges them where that is smaller.</summary>
    /// <param name="current">The run that they are of.</param>
    /// <param name="from">The sequence of the state that they start from.</param>
    /// <param name="to">The sequence of the state that they lead to.</param>
    /// <param name="slices">Where they are.</param>
    /// <param name="limit">How many bytes are worth being merged.</param>
    private UpdateBatch Read(RunHistory current, long from, long to, List<SegmentRange> slices, long limit)
    {
        lock (sync)
        {
            if (lastMerged is { } last && run == current && (last.From, last.To) == (from, to)) return new UpdateBatch { Messages = [last.Message], NewestSequence = to };
        }

        var messages = new List<UpdateMessage>();
        foreach (var slice in slices) slice.ReadInto(messages);
        return messages.Count > 1 && slices.Sum(s => s.Bytes) <= limit && Merge(current, from, to, messages) is { } merged
            ? merged
            : new UpdateBatch { Messages = messages, NewestSequence = to };
    }

    /// <summary>Merges updates, and those that have come meanwhile.</summary>
    /// <returns>The merged update; null where it is not smaller, or can't be made.</returns>
    private UpdateBatch? Merge(RunHistory current, long from, long to, List<UpdateMessage> messages)
    {
        MergedUpdate merged;
        lock (sync)
        {
            if (disposed || run != current) return null;
            merged = new MergedUpdate(head.Required.Layout);
        }

        if (!messages.TrueForAll(merged.TryAdd)) return null;
        ModelUpdate update;
        lock (sync)
        {
            if (disposed || run != current) return null;
            if (current.Head > to)
            {
                var known = messages.Count;
                foreach (var slice in current.Slice(to, current.Head)) slice.ReadInto(messages);
                if (!messages.Skip(known).All(merged.TryAdd)) return null;
            }

            update = merged.Build(from, head.Required);
        }

        using (update)
        {
            var message = new UpdateMessage(codec.Encode(update), messages[0].PublishedAt);
            if (message.Bytes.Length >= messages.Sum(m => (long)m.Bytes.Length)) return null;
            lock (sync)
            {
                if (head.State?.Sequence == update.Sequence) lastMerged = (from, update.Sequence, message);
            }

            return new UpdateBatch { Messages = [message], NewestSequence = update.Sequence };
        }
    }

    /// <summary>Applies updates of the log to a state.</summary>
    /// <exception cref="UpdateLogDamagedException">One is not what it should be.</exception>
    private void Replay(ModelState state, List<SegmentRange> slices)
    {
        foreach (var slice in slices)
        {
            var messages = new List<UpdateMessage>();
            slice.ReadInto(messages);
            for (var i = 0; i < messages.Count; i++)
            {
                try
                {
                    using var update = codec.DecodeIfNeeded(messages[i].Bytes.Span, state);
                    if (update?.Sequence != slice.Records[i].Sequence)
                    {
                        throw new UpdateLogDamagedException(slice.Path, slice.Records[i].Offset, $"another update is where {slice.Records[i].Sequence} should be.");
                    }

                    state.Write(update, state.DigestAfter(update));
                }
                catch (DeploymentException e)
                {
                    throw new UpdateLogDamagedException(slice.Path, slice.Records[i].Offset, e.Message, e);
                }
            }
        }
    }

    private ModelSnapshot CachedSnapshot(string path)
    {
        lock (sync)
        {
            if (lastSnapshot is { } last && last.Path == path && last.Snapshot.TryGetTarget(out var cached)) return cached;
        }

        var snapshot = ReadSnapshot(path);
        lock (sync) lastSnapshot = (path, new WeakReference<ModelSnapshot>(snapshot));
        return snapshot;
    }

    private static ModelSnapshot ReadSnapshot(string path)
    {
        try
        {
            return ModelSnapshot.Load(path);
        }
        catch (SnapshotFormatException e)
        {
            throw new UpdateLogDamagedException(path, 0, e.Message, e);
        }
    }
}
