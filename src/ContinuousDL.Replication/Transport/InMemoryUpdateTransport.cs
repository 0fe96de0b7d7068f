using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Replication.Transport;

/// <summary>
/// Updates within one process: from a trainer to any number of replicas, which may be slow or come late. The newest messages
/// are kept, up to a bound; a replica that needs older ones gets the newest state instead.
/// </summary>
/// <remarks>Publishing never waits for a replica. Memory: one copy of the model, and the messages. Thread-safe.</remarks>
public sealed class InMemoryUpdateTransport : IUpdateTransport, IDisposable
{
    private readonly int capacity;
    private readonly UpdateCodec codec;
    private readonly TimeProvider timeProvider;
    private readonly Lock sync = new();
    private readonly PublishedHead head = new();
    private readonly Queue<Published> messages = new();
    private ModelSnapshot? headSnapshot;
    private readonly ChangeSignal news = new();
    private bool disposed;

    /// <summary>Makes a transport without anything published.</summary>
    /// <param name="capacity">How many messages to keep. Default: 1,024.</param>
    /// <param name="codec">Makes the messages. Default: one with default options.</param>
    /// <param name="timeProvider">The clock. Default: the system's.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="capacity"/> is less than 1.</exception>
    public InMemoryUpdateTransport(int capacity = 1024, UpdateCodec? codec = null, TimeProvider? timeProvider = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        this.capacity = capacity;
        this.codec = codec ?? new UpdateCodec();
        this.timeProvider = timeProvider ?? TimeProvider.System;
    }

    /// <summary>The newest state; null before the first is published.</summary>
    public NewestState? Head
    {
        get
        {
            lock (sync) return head.State is { } state ? new NewestState(state.RunId, state.Sequence, state.Digest) : null;
        }
    }

    /// <inheritdoc />
    public ValueTask PublishAsync(ModelUpdate update, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(update);
        cancellationToken.ThrowIfCancellationRequested();
        lock (sync)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            if (!head.LeadsOn(update))
            {
                ThrowIfAnother(update);
                return ValueTask.CompletedTask;
            }

            var digest = head.Required.DigestAfter(update);
            var message = new UpdateMessage(codec.Encode(update), timeProvider.GetUtcNow());
            if (messages.Count == capacity) messages.Dequeue();
            messages.Enqueue(new Published(head.Required.Sequence, update.Sequence, digest, message));
            head.Required.Write(update, digest);
            Announce();
        }

        return ValueTask.CompletedTask;
    }

    /// <inheritdoc />
    public ValueTask PublishAsync(ModelSnapshot snapshot, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        cancellationToken.ThrowIfCancellationRequested();
        lock (sync)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            if (!head.IsStart(snapshot)) return ValueTask.CompletedTask;
            head.Start(snapshot);
            messages.Clear();
            Announce();
        }

        return ValueTask.CompletedTask;
    }

    /// <inheritdoc />
    /// <exception cref="ObjectDisposedException">The transport is disposed.</exception>
    public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
    {
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Task next;
            lock (sync)
            {
                ObjectDisposedException.ThrowIf(disposed, this);
                if (TryRead(runId, sequence) is { } batch) return batch;
                next = news.Next;
            }

            if (!await ChangeSignal.WaitAsync(next, cancellationToken).ConfigureAwait(false)) return UpdateBatch.Empty;
        }
    }

    /// <summary>Ends the waits of replicas, with an <see cref="ObjectDisposedException"/>.</summary>
    public void Dispose()
    {
        lock (sync)
        {
            if (disposed) return;
            disposed = true;
            news.End(new ObjectDisposedException(nameof(InMemoryUpdateTransport)));
            head.Dispose();
        }
    }

    private UpdateBatch? TryRead(Guid runId, long sequence)
    {
        if (head.State is not { } state || (runId == state.RunId && sequence == state.Sequence)) return null;
        UpdateMessage[] since = runId == state.RunId ? [.. messages.SkipWhile(m => m.From != sequence).Select(m => m.Message)] : [];
        if (since.Length > 0 && since.Sum(m => (long)m.Bytes.Length) <= state.Layout.SizeInBytes) return new UpdateBatch { Messages = since, NewestSequence = state.Sequence };
        return new UpdateBatch { Snapshot = headSnapshot ??= codec.Sign(state.CreateSnapshot()), NewestSequence = state.Sequence };
    }

    private void ThrowIfAnother(ModelUpdate update)
    {
        if (update.Sequence == head.Required.Sequence) return;
        if (messages.Count == 0 || update.Sequence <= messages.Peek().From)
        {
            throw new UpdateConflictException($"Update {update.Sequence} is older than all that are kept: whether it is the same can't be told.", update.Sequence);
        }

        foreach (var known in messages)
        {
            if (known.To != update.Sequence) continue;
            if (known.Digest != update.StateDigest) throw PublishedHead.Conflict(update, known.Digest);
            return;
        }

        throw new UpdateConflictException($"Update {update.Sequence} was not published, but later ones were: one of those led past it.", update.Sequence);
    }

    private void Announce()
    {
        headSnapshot = null;
        news.Raise();
    }

    /// <summary>A message, and the states that it starts from and leads to.</summary>
    private readonly record struct Published(long From, long To, ulong Digest, UpdateMessage Message);
}
