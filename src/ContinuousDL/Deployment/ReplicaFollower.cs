using System.Diagnostics.Metrics;
using ContinuousDL.Diagnostics;
using ContinuousDL.Transport;
using ContinuousDL.Wire;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using static TorchSharp.torch;

namespace ContinuousDL.Deployment;

/// <summary>
/// Keeps a replica at the trainer's newest state, from a source that may lose, repeat, reorder, delay or damage messages, and be
/// away for a while. Whatever happens, the replica answers, and in the end it is identical again, without a restart.
/// </summary>
/// <remarks>
/// A damaged message is dropped and asked for again; so are missing ones. Where that doesn't help, or the state itself is
/// another than the trainer's, a snapshot is asked for. <see cref="Status"/> says what is going on.
/// </remarks>
/// <example>
/// <code>
/// using var replica = new ModelReplica&lt;LeNet5&gt;(() => new LeNet5(), ModelSnapshot.Of(new LeNet5()));
/// var follower = new ReplicaFollower&lt;LeNet5&gt;(replica, new DirectoryUpdateSource("updates"));
/// var following = follower.RunAsync(stopping.Token);
/// </code>
/// </example>
/// <typeparam name="TModule">The type of the module.</typeparam>
public sealed class ReplicaFollower<TModule> : IDisposable
    where TModule : nn.Module
{
    private readonly ModelReplica<TModule> replica;
    private readonly IUpdateSource source;
    private readonly ReplicaFollowerOptions options;
    private readonly UpdateCodec codec;
    private readonly ILogger logger;
    private readonly ContinuousDLMetrics metrics;
    private readonly TimeProvider timeProvider;
    private readonly KeyValuePair<string, object?> tag;
    private readonly List<(long Sequence, UpdateMessage Message)> ordered = [];
    private volatile ReplicaStatus status;
    private long newest;
    private bool needsSnapshot;
    private int fruitless;

    /// <summary>Makes a follower. It does nothing until <see cref="RunAsync"/>.</summary>
    /// <param name="replica">The replica. It stays the caller's. One that was made of a module by itself begins with a snapshot of the source.</param>
    /// <param name="source">Where updates come from. It stays the caller's.</param>
    /// <param name="options">How to behave when something goes wrong. Default: as the options say.</param>
    /// <param name="codec">Reads the messages, and checks their signatures if it has a key. Default: one with default options.</param>
    /// <param name="logger">Is told of every change of state. Default: nobody.</param>
    /// <param name="meterFactory">Makes the meter. Default: the library's own.</param>
    /// <param name="timeProvider">The clock. Default: the system's.</param>
    /// <exception cref="ArgumentException">An option is out of range; the message names it.</exception>
    public ReplicaFollower(
        ModelReplica<TModule> replica,
        IUpdateSource source,
        ReplicaFollowerOptions? options = null,
        UpdateCodec? codec = null,
        ILogger<ReplicaFollower<TModule>>? logger = null,
        IMeterFactory? meterFactory = null,
        TimeProvider? timeProvider = null)
    {
        ArgumentNullException.ThrowIfNull(replica);
        ArgumentNullException.ThrowIfNull(source);
        this.replica = replica;
        this.source = source;
        this.options = OptionsValidator.Validate(options ?? new ReplicaFollowerOptions(), nameof(options)).Copy();
        this.codec = codec ?? new UpdateCodec();
        this.logger = logger ?? NullLogger<ReplicaFollower<TModule>>.Instance;
        this.timeProvider = timeProvider ?? TimeProvider.System;
        metrics = new ContinuousDLMetrics(meterFactory);
        tag = new KeyValuePair<string, object?>("replica", this.options.Name);
        newest = replica.Sequence;
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
        needsSnapshot = replica.RunId == Guid.Empty;
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            TimeSpan wait;
            var asked = timeProvider.GetTimestamp();
            try
            {
                var batch = needsSnapshot
                    ? await source.ReceiveAsync(Guid.Empty, 0, cancellationToken).ConfigureAwait(false)
                    : await source.ReceiveAsync(replica.RunId, replica.Sequence, cancellationToken).ConfigureAwait(false);
                wait = batch.IsEmpty && batch.NewestSequence <= replica.Sequence ? TakeNothing(timeProvider.GetElapsedTime(asked)) : Take(batch);
            }
            catch (Exception e) when (e is not ObjectDisposedException && !(e is OperationCanceledException && cancellationToken.IsCancellationRequested))
            {
                // Whatever a source throws, a timeout of its own too, the replica goes on answering, and the source may come back.
                wait = Fail(e.Message, e);
            }

            if (wait > TimeSpan.Zero) await Task.Delay(wait, timeProvider, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Ends the measurements. The replica and the source stay.</summary>
    public void Dispose() => metrics.Dispose();

    /// <summary>Applies what a batch has, and decides how to go on.</summary>
    /// <returns>How long to wait before asking again.</returns>
    private TimeSpan Take(UpdateBatch batch)
    {
        var problem = TakeSnapshot(batch.Snapshot, out var progress);
        problem = Apply(batch.Messages, ref progress) ?? problem;
        newest = Math.Max(newest, Math.Max(batch.NewestSequence, replica.Sequence));
        metrics.RecordReplicaLag(newest - replica.Sequence, tag);
        if (needsSnapshot) return Resync(problem ?? "The source gave no snapshot.");
        if (progress) fruitless = 0;
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
        metrics.RecordReplicaLag(newest - replica.Sequence, tag);
        if (needsSnapshot) Become(ReplicaState.Resyncing, "The source has no snapshot yet.");
        else Become(replica.Sequence >= newest ? ReplicaState.Current : ReplicaState.CatchingUp, null);
        return waited < options.RetryDelay ? options.RetryDelay : TimeSpan.Zero;
    }

    /// <summary>Takes over a snapshot, unless it is an old one that comes late.</summary>
    /// <returns>Why it was not taken over; null where it was, or there is none.</returns>
    private string? TakeSnapshot(ModelSnapshot? snapshot, out bool taken)
    {
        taken = false;
        if (snapshot is null) return null;
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
            return Refuse(RefusalReason.Signature, e);
        }

        // What is known of the newest state of another run, or of a source that has gone back, does not count any more.
        if (needsSnapshot || snapshot.RunId != replica.RunId) newest = 0;
        replica.Restore(snapshot);
        metrics.RecordReplicaResync(tag);
        needsSnapshot = false;
        taken = true;
        return null;
    }

    /// <summary>Applies messages in the order of their sequences.</summary>
    /// <returns>What was wrong with the last one that could not be applied; null where all could.</returns>
    private string? Apply(IReadOnlyList<UpdateMessage> messages, ref bool progress)
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
                problem = Refuse(RefusalReason.Damaged, e);
            }
        }

        ordered.Sort(static (a, b) => a.Sequence.CompareTo(b.Sequence));
        foreach (var (sequence, message) in ordered)
        {
            try
            {
                if (!replica.Apply(message.Bytes.Span, codec)) continue;
                progress = true;
                metrics.RecordReplicaUpdate(timeProvider.GetUtcNow() - message.PublishedAt, tag);
            }
            catch (UpdateSignatureException e)
            {
                problem = Refuse(RefusalReason.Signature, e);
            }
            catch (UpdateGapException e)
            {
                newest = Math.Max(newest, sequence);
                problem = Refuse(RefusalReason.Gap, e);
            }
            catch (DeploymentException e)
            {
                // Another run, another model, or another state than the trainer's: no update will ever fit. Nor will one that makes no
                // sense though its checksum was right.
                problem = Refuse(RefusalReason.Diverged, e);
                needsSnapshot = true;
                break;
            }
        }

        ordered.Clear();
        return problem;
    }

    private string Refuse(RefusalReason reason, DeploymentException e)
    {
        metrics.RecordReplicaRefusal(reason, tag);
        return e.Message;
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
        var now = new ReplicaStatus(state, reason, replica.RunId, replica.Sequence, newest);
        status = now;
        if (before.State == state && before.Reason == reason) return;
        if (before.State != state) LogState(now, exception);
        StatusChanged?.Invoke(this, now);
    }

    private void LogState(ReplicaStatus now, Exception? exception)
    {
        switch (now.State)
        {
            case ReplicaState.Failed: Log.ReplicaFailed(logger, exception, options.Name, now.Sequence, now.Reason); break;
            case ReplicaState.Resyncing: Log.ReplicaResyncing(logger, options.Name, now.Sequence, now.Reason); break;
            default: Log.ReplicaStateChanged(logger, options.Name, now.State, now.Sequence, now.NewestSequence); break;
        }
    }
}
