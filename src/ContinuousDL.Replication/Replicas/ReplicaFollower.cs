using System.Diagnostics.Metrics;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace ContinuousDL.Replication.Replicas;

/// <summary>
/// Keeps a replica at the trainer's newest state, from a source that may lose, repeat, reorder, delay or damage messages, and be
/// away for a while. Whatever happens, the replica answers, and in the end it is identical again, without a restart.
/// </summary>
/// <remarks>
/// A damaged message is dropped and asked for again; so are missing ones. Where that doesn't help, or the state itself is
/// another than the trainer's, a snapshot is asked for. <see cref="Status"/> says what is going on. A prediction that doesn't end
/// holds updates up, which the status says, but neither the follower nor its cancellation.
/// </remarks>
/// <example>
/// <code>
/// using var replica = new MemoryReplica();
/// using var follower = new ReplicaFollower(replica, new DirectoryUpdateSource("updates"));
/// var following = follower.RunAsync(stopping.Token);
/// await replica.WaitUntilReadyAsync(stopping.Token);
/// </code>
/// </example>
public sealed class ReplicaFollower : IDisposable
{
    private const string HeldUp = "A prediction that began before the last update has not ended: it holds the copy of the model that the next update is to be written to.";

    private readonly IReplica replica;
    private readonly IUpdateSource source;
    private readonly ReplicaFollowerOptions options;
    private readonly UpdateCodec codec;
    private readonly ILogger logger;
    private readonly ReplicaMetrics metrics;
    private readonly TimeProvider timeProvider;
    private readonly KeyValuePair<string, object?> tag;
    private readonly List<(long Sequence, UpdateMessage Message)> ordered = [];
    private readonly RollbackGuard? guard;
    private readonly Freshness freshness;
    private volatile ReplicaStatus status;
    private long newest;
    private bool needsSnapshot;
    private bool isHeldUp;
    private bool hasSaved = true;
    private int fruitless;

    /// <summary>Makes a follower. It does nothing until <see cref="RunAsync"/>.</summary>
    /// <param name="replica">The replica. It stays the caller's. One that has no state yet, or one of a module by itself, begins with a snapshot of the source.</param>
    /// <param name="source">Where updates come from. It stays the caller's.</param>
    /// <param name="options">How to behave when something goes wrong. Default: as the options say.</param>
    /// <param name="codec">Reads the messages, and checks their signatures if it has a key. Default: one with default options.</param>
    /// <param name="logger">The logger of every change of state. Default: none.</param>
    /// <param name="meterFactory">Makes the meter. Default: the library's own.</param>
    /// <param name="timeProvider">The clock. Default: the system's.</param>
    /// <exception cref="ArgumentException">An option is out of range, or is for a follower with a key; the message names it.</exception>
    /// <exception cref="InvalidDataException">The <see cref="ReplicaFollowerOptions.SequenceFile"/> is damaged.</exception>
    /// <exception cref="IOException">That file can't be read.</exception>
    /// <exception cref="UnauthorizedAccessException">That file must not be read.</exception>
    public ReplicaFollower(
        IReplica replica,
        IUpdateSource source,
        ReplicaFollowerOptions? options = null,
        UpdateCodec? codec = null,
        ILogger<ReplicaFollower>? logger = null,
        IMeterFactory? meterFactory = null,
        TimeProvider? timeProvider = null)
    {
        ArgumentNullException.ThrowIfNull(replica);
        ArgumentNullException.ThrowIfNull(source);
        this.replica = replica;
        this.source = source;
        this.options = OptionsValidator.Validate(options ?? new ReplicaFollowerOptions(), nameof(options)).Copy();
        this.codec = codec ?? new UpdateCodec();
        this.logger = logger ?? NullLogger<ReplicaFollower>.Instance;
        this.timeProvider = timeProvider ?? TimeProvider.System;
        if (!this.codec.ChecksSignatures && (this.options.SequenceFile is not null || this.options.AllowRollback))
        {
            throw new ArgumentException("SequenceFile and AllowRollback are for a follower with a key: without one, anybody on the way could write any sequence.", nameof(options));
        }

        if (this.codec.ChecksSignatures)
        {
            guard = new RollbackGuard(this.options.SequenceFile, this.timeProvider);

            // A replica that was made of a state of another run has not followed it yet.
            if (guard.RunId == Guid.Empty || guard.RunId == replica.RunId) guard.Note(replica.RunId, Math.Max(replica.Sequence, guard.HighestOf(replica.RunId)));
        }

        freshness = new Freshness(this.codec, this.options.MaximumSilence, this.timeProvider);
        metrics = new ReplicaMetrics(meterFactory);
        tag = new KeyValuePair<string, object?>("replica", this.options.Name);
        newest = Math.Max(replica.Sequence, Floor);
        status = new ReplicaStatus(ReplicaState.CatchingUp, "It has just started.", replica.RunId, replica.Sequence, newest);
    }

    /// <summary>Where the replica is, and what it does.</summary>
    public ReplicaStatus Status => status;

    /// <summary>Is raised when <see cref="ReplicaStatus.State"/> or its reason has changed, on the task of <see cref="RunAsync"/>. Handlers must be short, and not throw.</summary>
    public event EventHandler<ReplicaStatus>? StatusChanged;

    /// <summary>Follows until it is cancelled. To be called by one caller at a time.</summary>
    /// <param name="cancellationToken">Ends it.</param>
    /// <returns>A task that ends with cancellation alone, or when the replica or the source is disposed.</returns>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The replica or the source was disposed.</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        // A state of no run is not one of the trainer's, unless by chance.
        needsSnapshot = replica.RunId == Guid.Empty || HasLeft(replica.RunId);
        freshness.Start();
        try
        {
            while (true)
            {
                cancellationToken.ThrowIfCancellationRequested();
                TimeSpan wait;
                var asked = timeProvider.GetTimestamp();
                try
                {
                    var batch = await ReceiveAsync(cancellationToken).ConfigureAwait(false);
                    wait = Hear(batch) ? TakeNothing(timeProvider.GetElapsedTime(asked)) : await TakeAsync(batch, cancellationToken).ConfigureAwait(false);
                }
                catch (Exception e) when (e is not ObjectDisposedException && !(e is OperationCanceledException && cancellationToken.IsCancellationRequested))
                {
                    // Whatever a source throws, a timeout of its own too, the replica goes on answering, and the source may come back.
                    wait = Fail(e.Message, e);
                    if (e is UpdateSourceUnavailableException { RetryAfter: { } after }) wait = TimeSpan.FromTicks(Math.Max(wait.Ticks, Math.Min(after.Ticks, options.LongestRetryAfter.Ticks)));
                }

                SaveSequence(now: false);
                await WaitAsync(wait, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            SaveSequence(now: true);
        }
    }

    /// <summary>Ends the measurements. The replica and the source stay.</summary>
    public void Dispose() => metrics.Dispose();

    /// <summary>The lowest sequence at which the replica can be called current: with a key, the highest that was seen before.</summary>
    private long Floor => options.AllowRollback || guard is null ? 0 : guard.HighestOf(replica.RunId);

    private bool HasLeft(Guid runId) => !options.AllowRollback && guard is not null && guard.HasLeft(runId);

    /// <summary>Asks the source, and says that the replica is stale when that takes too long.</summary>
    private async ValueTask<UpdateBatch> ReceiveAsync(CancellationToken cancellationToken)
    {
        var receiving = needsSnapshot
            ? source.ReceiveAsync(Guid.Empty, 0, cancellationToken)
            : source.ReceiveAsync(replica.RunId, replica.Sequence, cancellationToken);
        if (!freshness.IsWatched || receiving.IsCompleted) return await receiving.ConfigureAwait(false);
        var answer = receiving.AsTask();
        if (freshness.Remaining is var remaining && remaining > TimeSpan.Zero)
        {
            using var answered = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            await Task.WhenAny(answer, Task.Delay(remaining, timeProvider, answered.Token)).ConfigureAwait(false);
            await answered.CancelAsync().ConfigureAwait(false);
        }

        if (!answer.IsCompleted) Become(status.State, status.Reason);
        return await answer.ConfigureAwait(false);
    }

    /// <summary>Learns from an answer what the newest state is.</summary>
    /// <returns>Whether the answer brings nothing, and there is nothing newer either.</returns>
    private bool Hear(UpdateBatch batch)
    {
        freshness.Hear(batch);
        if (freshness.IsWatched) metrics.RecordSilence(freshness.Silence, tag);
        if (!batch.IsEmpty || batch.NewestSequence > replica.Sequence || replica.Sequence < Floor) return false;
        if (freshness.Newest is not { } said) return true;
        if (said.RunId == replica.RunId) newest = Math.Max(newest, said.Sequence);
        return said.RunId == replica.RunId ? said.Sequence <= replica.Sequence : needsSnapshot;
    }

    /// <summary>Waits before the source is asked again; where a prediction holds the replica up, no longer than that.</summary>
    private async ValueTask WaitAsync(TimeSpan wait, CancellationToken cancellationToken)
    {
        if (wait <= TimeSpan.Zero) return;
        if (isHeldUp) await replica.WaitUntilWritableAsync(wait, timeProvider, cancellationToken).ConfigureAwait(false);
        else await Task.Delay(wait, timeProvider, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Applies what a batch has, and decides how to go on.</summary>
    /// <returns>How long to wait before asking again.</returns>
    private async ValueTask<TimeSpan> TakeAsync(UpdateBatch batch, CancellationToken cancellationToken)
    {
        isHeldUp = false;
        var before = (replica.RunId, replica.Sequence, replica.Digest);
        var wasAsked = needsSnapshot;
        var problem = await TakeSnapshotAsync(batch, cancellationToken).ConfigureAwait(false);
        problem = await ApplyAsync(batch.Messages, cancellationToken).ConfigureAwait(false) ?? problem;
        return Decide(batch, problem, (wasAsked && !needsSnapshot) || before != (replica.RunId, replica.Sequence, replica.Digest));
    }

    private TimeSpan Decide(UpdateBatch batch, string? problem, bool progress)
    {
        newest = Math.Max(Math.Max(newest, Floor), Math.Max(batch.NewestSequence, replica.Sequence));
        if (freshness.Newest is { } said && said.RunId == replica.RunId) newest = Math.Max(newest, said.Sequence);
        metrics.RecordLag(newest - replica.Sequence, tag);
        if (isHeldUp)
        {
            // Asking again from time to time tells how far behind the replica is by now.
            fruitless = 0;
            Become(ReplicaState.CatchingUp, problem);
            return options.MaxRetryDelay;
        }

        if (needsSnapshot) return Resync(problem ?? "The source gave no snapshot.");
        if (progress) fruitless = 0;
        if (!progress && freshness.Newest is { } other && other.RunId != replica.RunId) return Resync($"The newest state is of the training run {other.RunId}, the replica's is of {replica.RunId}.");
        if (replica.Sequence < newest && !progress) problem ??= "The source gave nothing that leads on from the replica's state.";
        if (replica.Sequence >= newest && (progress || batch.Snapshot is null))
        {
            // What was damaged or missing can only have been what the replica has anyway.
            fruitless = 0;
            Become(ReplicaState.Current, null);
            return progress ? TimeSpan.Zero : options.RetryDelay;
        }

        if (!progress && ++fruitless >= options.AttemptsBeforeResync) return Resync(problem);
        Become(ReplicaState.CatchingUp, problem);
        return progress ? TimeSpan.Zero : Backoff();
    }

    /// <summary>The source is there, and has nothing new.</summary>
    /// <param name="waited">How long it took to say so.</param>
    /// <returns>How long to wait before asking again: not at all where the source has waited itself.</returns>
    private TimeSpan TakeNothing(TimeSpan waited)
    {
        isHeldUp = false;
        fruitless = 0;
        metrics.RecordLag(newest - replica.Sequence, tag);
        if (needsSnapshot) Become(ReplicaState.Resyncing, "The source has no snapshot yet.");
        else Become(replica.Sequence >= newest ? ReplicaState.Current : ReplicaState.CatchingUp, null);
        return waited < options.RetryDelay ? options.RetryDelay : TimeSpan.Zero;
    }

    /// <summary>Takes over a batch's snapshot, unless it is an old one that comes late, or must not be taken over.</summary>
    /// <returns>Why it was not taken over; null where it was, or there is none.</returns>
    private async ValueTask<string?> TakeSnapshotAsync(UpdateBatch batch, CancellationToken cancellationToken)
    {
        if (batch.Snapshot is not { } snapshot) return null;
        if (!needsSnapshot && snapshot.RunId == replica.RunId && snapshot.Sequence <= replica.Sequence)
        {
            return $"The source offers the state at sequence {snapshot.Sequence}; the replica has a later one.";
        }

        try
        {
            codec.Verify(snapshot);
        }
        catch (UpdateSignatureException e)
        {
            return Refuse(RefusalReason.Signature, e.Message);
        }

        if (ObjectionTo(batch, snapshot) is { } objection) return Refuse(RefusalReason.Rollback, objection);
        if (!await IsWritableAsync(cancellationToken).ConfigureAwait(false)) return HeldUp;

        // What is known of the newest state of another run, or of a source that has gone back, does not count any more.
        if (needsSnapshot || snapshot.RunId != replica.RunId) newest = 0;
        replica.Restore(snapshot, cancellationToken);
        guard?.Note(snapshot.RunId, Math.Max(snapshot.Sequence, Floor));
        metrics.RecordResync(tag);
        needsSnapshot = false;
        return null;
    }

    /// <summary>Why the replica must not go over to a signed snapshot; null where it may.</summary>
    private string? ObjectionTo(UpdateBatch batch, ModelSnapshot snapshot)
    {
        if (options.AllowRollback || guard is null) return null;

        // The source's newest snapshot may well be older than the newest state; what counts is where its updates lead.
        var reach = snapshot.Sequence;
        if (reach < guard.HighestOf(snapshot.RunId)) reach = Reach(snapshot, batch.Messages);
        var objection = guard.Objection(snapshot.RunId, reach);
        if (objection is null && snapshot.RunId != replica.RunId) objection = freshness.ObjectionTo(snapshot.RunId);
        return objection;
    }

    /// <summary>The sequence that signed messages lead to from a snapshot, without a gap.</summary>
    private long Reach(ModelSnapshot snapshot, IReadOnlyList<UpdateMessage> messages)
    {
        var headers = new List<UpdateHeader>();
        foreach (var message in messages)
        {
            try
            {
                headers.Add(codec.Verify(message.Bytes.Span));
            }
            catch (Exception e) when (e is WireFormatException or UpdateSignatureException)
            {
                // It leads nowhere; that it is refused is counted where it is applied.
            }
        }

        var reach = snapshot.Sequence;
        var run = UpdateHeader.TagOf(snapshot.RunId);
        foreach (var header in headers.Where(h => h.RunTag == run).OrderBy(h => h.Sequence))
        {
            if (header.BaseSequence <= reach) reach = Math.Max(reach, header.Sequence);
        }

        return reach;
    }

    /// <summary>Waits a moment for predictions that still use the copy which is to be written.</summary>
    private async ValueTask<bool> IsWritableAsync(CancellationToken cancellationToken)
    {
        isHeldUp = !await replica.WaitUntilWritableAsync(options.RetryDelay, timeProvider, cancellationToken).ConfigureAwait(false);
        return !isHeldUp;
    }

    /// <summary>Applies messages in the order of their sequences.</summary>
    /// <returns>The fault of the last one that could not be applied; null where all could.</returns>
    private async ValueTask<string?> ApplyAsync(IReadOnlyList<UpdateMessage> messages, CancellationToken cancellationToken)
    {
        var problem = Order(messages);
        foreach (var (sequence, message) in ordered)
        {
            if (isHeldUp || !replica.IsReady || HasLeft(replica.RunId)) break;
            if (sequence > replica.Sequence && !await IsWritableAsync(cancellationToken).ConfigureAwait(false))
            {
                problem = HeldUp;
                break;
            }

            problem = Apply(sequence, message, cancellationToken, out var isHopeless) ?? problem;
            if (isHopeless) break;
        }

        ordered.Clear();
        return problem;
    }

    /// <summary>Puts messages in the order of their sequences.</summary>
    /// <returns>The fault of the last one that is damaged; null where none is.</returns>
    private string? Order(IReadOnlyList<UpdateMessage> messages)
    {
        string? problem = null;
        ordered.Clear();
        foreach (var message in messages)
        {
            try
            {
                ordered.Add((UpdateCodec.ReadHeader(message.Bytes.Span).Sequence, message));
            }
            catch (WireFormatException e)
            {
                problem = Refuse(RefusalReason.Damaged, e.Message);
            }
        }

        ordered.Sort(static (a, b) => a.Sequence.CompareTo(b.Sequence));
        return problem;
    }

    /// <summary>Applies one message.</summary>
    /// <returns>Why it could not be applied; null where it was, or is not needed.</returns>
    private string? Apply(long sequence, UpdateMessage message, CancellationToken cancellationToken, out bool isHopeless)
    {
        isHopeless = false;
        try
        {
            if (!replica.Apply(message.Bytes.Span, codec, cancellationToken)) return null;
            guard?.Note(replica.RunId, Math.Max(replica.Sequence, Floor));
            metrics.RecordUpdate(timeProvider.GetUtcNow() - message.PublishedAt, tag);
            return null;
        }
        catch (UpdateSignatureException e)
        {
            return Refuse(RefusalReason.Signature, e.Message);
        }
        catch (UpdateGapException e)
        {
            newest = Math.Max(newest, sequence);
            return Refuse(RefusalReason.Gap, e.Message);
        }
        catch (DeploymentException e)
        {
            // Another run, another model, or another state than the trainer's: no update will ever fit. Nor will one that makes no
            // sense though its checksum was right.
            needsSnapshot = isHopeless = true;
            return Refuse(RefusalReason.Diverged, e.Message);
        }
    }

    private string Refuse(RefusalReason reason, string problem)
    {
        metrics.RecordRefusal(reason, tag);
        return problem;
    }

    /// <summary>Writes down how far the replica has got.</summary>
    private void SaveSequence(bool now)
    {
        try
        {
            guard?.Save(now);
            hasSaved = true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Serving goes on; the protection is as old as the file. It is said once, not every second.
            if (hasSaved) ReplicaMessages.SequenceFileFailed(logger, e, options.Name, options.SequenceFile);
            hasSaved = false;
        }
    }

    /// <summary>Asks for a snapshot from now on; that it has been asked for several times without one is a failure.</summary>
    private TimeSpan Resync(string? reason)
    {
        needsSnapshot = true;
        if (status.State is not (ReplicaState.Resyncing or ReplicaState.Failed))
        {
            fruitless = 0;
            Become(ReplicaState.Resyncing, reason);
            return TimeSpan.Zero;
        }

        if (fruitless >= options.AttemptsBeforeResync) return Fail(reason);
        fruitless++;
        Become(ReplicaState.Resyncing, reason);
        return Backoff();
    }

    private TimeSpan Fail(string? reason, Exception? exception = null)
    {
        isHeldUp = false;
        fruitless++;
        Become(ReplicaState.Failed, reason, exception);
        return Backoff();
    }

    /// <summary>Twice as long each time in a row.</summary>
    private TimeSpan Backoff() =>
        TimeSpan.FromTicks((long)Math.Min(options.MaxRetryDelay.Ticks, options.RetryDelay.Ticks * Math.Pow(2, fruitless - 1)));

    private void Become(ReplicaState state, string? reason, Exception? exception = null)
    {
        var before = status;
        if (state is ReplicaState.Current or ReplicaState.CatchingUp or ReplicaState.Stale && freshness.Objection is { } objection) (state, reason) = (ReplicaState.Stale, objection);
        var now = new ReplicaStatus(state, reason, replica.RunId, replica.Sequence, newest);
        status = now;
        if (before.State == state && (before.Reason == reason || state == ReplicaState.Stale)) return;
        if (before.State != state) LogState(now, exception);
        StatusChanged?.Invoke(this, now);
    }

    private void LogState(ReplicaStatus now, Exception? exception)
    {
        switch (now.State)
        {
            case ReplicaState.Failed: ReplicaMessages.ReplicaFailed(logger, exception, options.Name, now.Sequence, now.Reason); break;
            case ReplicaState.Stale: ReplicaMessages.ReplicaStale(logger, options.Name, now.Sequence, now.Reason); break;
            case ReplicaState.Resyncing: ReplicaMessages.ReplicaResyncing(logger, options.Name, now.Sequence, now.Reason); break;
            default: ReplicaMessages.ReplicaStateChanged(logger, options.Name, now.State, now.Sequence, now.NewestSequence); break;
        }
    }
}
