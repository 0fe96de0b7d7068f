using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Replication.Replicas;

/// <summary>
/// A model that follows a trainer: it is used by any number of threads while updates are applied to it, every use sees exactly one
/// sequence, and an update that would not lead to the trainer's exact state is refused.
/// </summary>
/// <remarks>
/// It holds two copies of the model, one that answers and one that the next update is applied to while nobody uses it, upon which
/// they change places; and the last update, which the other copy still lacks. So uses never wait for an update.
/// <see cref="Apply(ModelUpdate)"/> waits for uses of the copy that it needs, which are those that began before the
/// last update. One that is made without a state answers nothing until it has one, see <see cref="IsReady"/>. Thread-safe.
/// </remarks>
/// <typeparam name="TModel">The type of the model.</typeparam>
public abstract class Replica<TModel> : IReplica, IDisposable
    where TModel : class
{
    /// <summary>Only for predictions that last as long as a few memory accesses is it cheaper to spin than to be woken.</summary>
    private const int Spins = 20;

    private ReplicaSide<TModel>[]? sides;

    /// <summary>One writer at a time; unlike a lock's, its wait can be cancelled.</summary>
    private readonly SemaphoreSlim applying = new(1, 1);
    private readonly CancellationTokenSource disposing = new();
    private readonly TaskCompletionSource ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock spoiling = new();
    private readonly ReentrantTurn turn = new();
    private int active;
    private int inUse;
    private ModelUpdate? pending;
    private bool pendingAll;
    private volatile bool hasPredicted;
    private volatile bool takesTurns;
    private volatile bool mustRepair;
    private volatile bool disposed;

    /// <summary>Makes a replica without a state, of which the copies are made with the first snapshot (<see cref="CreateCopies"/>).</summary>
    protected Replica()
    {
    }

    /// <summary>Makes a replica without a state.</summary>
    /// <param name="first">One copy of the model. The replica owns it.</param>
    /// <param name="second">The other one, of the same architecture. The replica owns it.</param>
    protected Replica(ReplicaCopy<TModel> first, ReplicaCopy<TModel> second) => SetCopies(first, second);

    /// <summary>Whether the replica has a state to answer from: false from the constructor without a snapshot until the first one is taken over, then true.</summary>
    public bool IsReady => ready.Task.IsCompletedSuccessfully;

    /// <summary>How long <see cref="Dispose"/> waits for leases: from nothing to a day. <value>5 seconds.</value></summary>
    /// <exception cref="ArgumentOutOfRangeException">It is set to less than nothing, or to more than a day.</exception>
    public TimeSpan DisposalTimeout
    {
        get;
        init
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, TimeSpan.Zero, nameof(DisposalTimeout));
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, TimeSpan.FromDays(1), nameof(DisposalTimeout));
            field = value;
        }
    } = TimeSpan.FromSeconds(5);

    /// <summary>The training run that the replica follows; <see cref="Guid.Empty"/> until it is known.</summary>
    public Guid RunId => sides?[Volatile.Read(ref active)].State.RunId ?? Guid.Empty;

    /// <summary>The sequence of the state that answers; 0 without one.</summary>
    public long Sequence => sides?[Volatile.Read(ref active)].State.Sequence ?? 0;

    /// <summary>The digest of the state that answers, as it follows from the updates; 0 without one. <see cref="Verify"/> computes it from the values.</summary>
    public ulong Digest => sides?[Volatile.Read(ref active)].State.Digest ?? 0;

    /// <summary>The model's tensors and their coordinates.</summary>
    /// <exception cref="ReplicaNotReadyException">The replica learns of them with its first state, and has none yet.</exception>
    public ModelLayout Layout => Sides[0].State.Layout;

    private ReplicaSide<TModel>[] Sides => Volatile.Read(ref sides) ?? throw new ReplicaNotReadyException();

    /// <summary>Waits until the replica has a state to answer from.</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed, or was before it got a state.</exception>
    public Task WaitUntilReadyAsync(CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        return ready.Task.WaitAsync(cancellationToken);
    }

    /// <summary>Uses the model: it stays at one sequence until the result is disposed.</summary>
    /// <returns>
    /// A lease on the module. Dispose it soon: the second next update waits for it. Where the model writes to its own tensors in
    /// eval mode, the next update does, and so does the next lease on another thread.
    /// </returns>
    /// <exception cref="ReplicaNotReadyException">The replica has no state yet, see <see cref="IsReady"/>.</exception>
    /// <exception cref="ReplicaDivergedException">A prediction has changed the model, and no copy was left to put it back from; the message names what changed. A snapshot helps.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public Lease Acquire() => Acquire(isWatched: true);

    /// <summary>Applies an update, atomically.</summary>
    /// <param name="update">The update. It stays the caller's.</param>
    /// <returns>True when it was applied, false when the replica has that state or a later one already.</returns>
    /// <remarks>
    /// After any exception the replica is as it was, and goes on answering. Not to be called by a thread that holds a lease: it
    /// would wait for itself. The update must not be disposed meanwhile.
    /// </remarks>
    /// <exception cref="ModelMismatchException">The update is for another architecture.</exception>
    /// <exception cref="UpdateGapException">Updates before this one are missing.</exception>
    /// <exception cref="RunMismatchException">The update is of another training run.</exception>
    /// <exception cref="ReplicaDivergedException">The update does not lead from the replica's state to the trainer's.</exception>
    /// <exception cref="ReplicaNotReadyException">The replica has no state yet that the update could lead on from.</exception>
    /// <exception cref="ObjectDisposedException">The replica or the update is disposed.</exception>
    public bool Apply(ModelUpdate update) => Apply(update, CancellationToken.None);

    /// <summary>Applies an update, atomically, as <see cref="Apply(ModelUpdate)"/>.</summary>
    /// <param name="update">The update. It stays the caller's.</param>
    /// <param name="cancellationToken">Ends the wait for predictions. The replica is as it was then.</param>
    /// <returns>True when it was applied, false when the replica has that state or a later one already.</returns>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled before the update was applied.</exception>
    public bool Apply(ModelUpdate update, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(update);
        using var writing = EnterToWrite(cancellationToken);
        if (!IsReady) throw new ReplicaNotReadyException();
        Repair(cancellationToken);
        if (!Sides[active].State.Needs(update)) return false;
        var next = CatchUp(cancellationToken);
        Advance(next, update, next.DigestAfter(update), isOwn: false);
        return true;
    }

    /// <summary>Applies the update of a message, atomically.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <param name="codec">The codec that reads it, and checks its signature if it has a key.</param>
    /// <returns>True when it was applied, false when the replica has that state or a later one already.</returns>
    /// <remarks>As <see cref="Apply(ModelUpdate)"/>: after any exception the replica is as it was, and a thread that holds a lease must not call it.</remarks>
    /// <exception cref="WireFormatException">The bytes are not a message of the format, or not one for this model.</exception>
    /// <exception cref="UpdateSignatureException">The codec has a key, and the message is not signed by it.</exception>
    /// <exception cref="ModelMismatchException">The update is for another architecture.</exception>
    /// <exception cref="UpdateGapException">Updates before this one are missing.</exception>
    /// <exception cref="RunMismatchException">The update is of another training run.</exception>
    /// <exception cref="ReplicaDivergedException">The update does not lead from the replica's state to the trainer's.</exception>
    /// <exception cref="ReplicaNotReadyException">The replica has no state yet that the update could lead on from.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public bool Apply(ReadOnlySpan<byte> message, UpdateCodec codec) => Apply(message, codec, CancellationToken.None);

    /// <summary>Applies the update of a message, atomically, as <see cref="Apply(ReadOnlySpan{byte}, UpdateCodec)"/>.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <param name="codec">The codec that reads it, and checks its signature if it has a key.</param>
    /// <param name="cancellationToken">Ends the wait for predictions. The replica is as it was then.</param>
    /// <returns>True when it was applied, false when the replica has that state or a later one already.</returns>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled before the update was applied.</exception>
    public bool Apply(ReadOnlySpan<byte> message, UpdateCodec codec, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(codec);
        using var writing = EnterToWrite(cancellationToken);
        var frame = codec.Open(message);
        if (!IsReady) throw new ReplicaNotReadyException();
        Repair(cancellationToken);
        if (!Sides[active].State.Needs(frame.Header)) return false;

        // Its old values are read where the new ones are going to be written, so that this memory is in the cache then.
        var next = CatchUp(cancellationToken);
        var update = UpdateCodec.Decode(frame, next);
        try
        {
            Advance(next, update, next.DigestAfter(update, knowsPrevious: true), isOwn: true);
            return true;
        }
        catch
        {
            update.Dispose();
            throw;
        }
    }

    /// <summary>Makes a snapshot's state the replica's, atomically: of a later sequence, an earlier one, or another run.</summary>
    /// <param name="snapshot">The state to go on from.</param>
    /// <remarks>As with <see cref="Apply(ModelUpdate)"/>, not to be called by a thread that holds a lease.</remarks>
    /// <exception cref="ModelMismatchException">It is of a model of another architecture. The replica is as it was.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public void Restore(ModelSnapshot snapshot) => Restore(snapshot, CancellationToken.None);

    /// <summary>Makes a snapshot's state the replica's, atomically, as <see cref="Restore(ModelSnapshot)"/>.</summary>
    /// <param name="snapshot">The state to go on from.</param>
    /// <param name="cancellationToken">Ends the wait for predictions. The replica is as it was then.</param>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled before the state was taken over.</exception>
    public void Restore(ModelSnapshot snapshot, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        using var writing = EnterToWrite(cancellationToken);
        if (sides is null)
        {
            var (first, second) = CreateCopies(snapshot.Layout);
            SetCopies(first, second);
        }

        var next = Sides[1 - active];
        WaitForReaders(next, cancellationToken);
        SetPending(null, all: true);
        next.State.Load(snapshot);
        foreach (var side in Sides) side.IsSpoiled = false;
        mustRepair = false;
        Switch();
        ready.TrySetResult();
    }

    /// <summary>Waits until no lease holds what the next update needs, so that applying it would not wait.</summary>
    /// <param name="timeout">The longest wait.</param>
    /// <param name="timeProvider">The clock.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Whether there is none; false when the time has passed.</returns>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public async ValueTask<bool> WaitUntilWritableAsync(TimeSpan timeout, TimeProvider timeProvider, CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (sides is null) return true;
        if (takesTurns && !await turn.WaitUntilFreeAsync(timeout, timeProvider, cancellationToken).ConfigureAwait(false)) return false;
        var free = Sides[1 - Volatile.Read(ref active)].WhenFree();
        if (free.IsCompleted) return true;
        try
        {
            await free.WaitAsync(timeout, timeProvider, cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (TimeoutException)
        {
            return false;
        }
    }

    /// <summary>Computes the digest from every value and compares it with the one that follows from the updates. Takes time in proportion to the model's size.</summary>
    /// <returns>Whether the replica's state is exactly the trainer's.</returns>
    /// <exception cref="ReplicaNotReadyException">The replica has no state yet.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public bool Verify()
    {
        using var lease = Acquire(isWatched: false);
        return lease.ComputeDigest() == lease.Digest;
    }

    /// <summary>Copies the state, for another replica to start from.</summary>
    /// <exception cref="ReplicaNotReadyException">The replica has no state yet.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public ModelSnapshot CreateSnapshot()
    {
        using var lease = Acquire(isWatched: false);
        return lease.CreateSnapshot();
    }

    /// <summary>Ends what waits on the replica, and disposes the copies when the uses under way have ended.</summary>
    /// <remarks>
    /// It waits for them no longer than <see cref="DisposalTimeout"/>. A copy of the model that a lease holds then stays usable, and
    /// is disposed with that lease: memory is never freed under a prediction. With a lease that is never disposed it is kept.
    /// </remarks>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref disposed, true)) return;
        disposing.Cancel();
        ready.TrySetException(new ObjectDisposedException(GetType().FullName));
        _ = ready.Task.Exception;
        applying.Wait();
        if (sides is null) return;
        _ = Task.WhenAll(sides.Select(side => side.WhenFree())).Wait(DisposalTimeout);
        foreach (var side in sides) side.Close();
    }

    /// <summary>Takes the turn of the one that writes; disposing the result gives it to the next.</summary>
    private WritingTurn EnterToWrite(CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        if (!applying.Wait(0, CancellationToken.None)) UntilDisposed(applying.Wait, cancellationToken);
        var writing = new WritingTurn(applying);
        if (!disposed) return writing;
        writing.Dispose();
        throw new ObjectDisposedException(GetType().FullName);
    }

    /// <summary>Makes the copies of the model, for a replica that has none yet. Default: there are none to be made.</summary>
    /// <param name="layout">The architecture of the first snapshot.</param>
    protected virtual (ReplicaCopy<TModel> First, ReplicaCopy<TModel> Second) CreateCopies(ModelLayout layout) =>
        throw new InvalidOperationException("The replica was made without copies of a model.");

    /// <summary>Begins with a state, before anybody uses the replica.</summary>
    /// <param name="snapshot">The state to start from.</param>
    /// <exception cref="ModelMismatchException">It is of a model of another architecture; the message names the first difference.</exception>
    protected void Start(ModelSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        if (sides is null)
        {
            var (first, second) = CreateCopies(snapshot.Layout);
            SetCopies(first, second);
        }

        foreach (var side in Sides) side.State.Load(snapshot);
        ready.SetResult();
    }

    private void SetCopies(ReplicaCopy<TModel> first, ReplicaCopy<TModel> second)
    {
        ArgumentNullException.ThrowIfNull(first);
        ArgumentNullException.ThrowIfNull(second);
        ReplicaSide<TModel>[] both = [new(first, Free), new(second, Free)];
        inUse = both.Length;
        takesTurns = first.WritesToItself;
        Volatile.Write(ref sides, both);
    }

    /// <summary>Brings the copy that does not answer to the state of the one that does, when the predictions that still use it have ended.</summary>
    /// <returns>The copy, which nobody uses.</returns>
    private ModelState CatchUp(CancellationToken cancellationToken)
    {
        if (PutBack(Sides[1 - active], cancellationToken) is not null) SetPending(null, all: true);
        var (next, current) = (Sides[1 - active].State, Sides[active].State);

        // What a prediction has written to for the moment must not be taken for the state.
        var isAlone = takesTurns;
        if (isAlone) UntilDisposed(turn.Take, cancellationToken);
        try
        {
            if (pendingAll) next.CopyAll(current);
            else if (pending is not null) next.CatchUp(pending, current);
        }
        finally
        {
            if (isAlone) turn.Return();
        }

        if (!isAlone && pendingAll && Sides[active].IsWatched && Sides[active].Copy.IsChanged())
        {
            throw new ReplicaDivergedException("A prediction has changed the model while an update was being applied. Try again, or start from a snapshot.");
        }

        SetPending(null, all: false);
        return next;
    }

    /// <summary>Writes an update to the copy that does not answer, which has the state before it, and lets that one answer.</summary>
    /// <param name="next">The copy's state.</param>
    /// <param name="update">The update.</param>
    /// <param name="digest">The digest after it.</param>
    /// <param name="isOwn">Whether the update is the replica's, to be disposed of.</param>
    private void Advance(ModelState next, ModelUpdate update, ulong digest, bool isOwn)
    {
        // Should writing fail half way, the copy is taken anew; a whole update is too large to be kept.
        SetPending(null, all: true);
        next.Write(update, digest);
        if (!update.IsWhole) SetPending(isOwn ? update : update.Copy(), all: false);
        else if (isOwn) update.Dispose();
        Switch();
    }

    /// <summary>Lets the copy that did not answer, and has been written to, answer from now on.</summary>
    private void Switch()
    {
        Sides[1 - active].IsWatched = false;
        Interlocked.Exchange(ref active, 1 - active);
    }

    /// <summary>Uses the model.</summary>
    /// <param name="isWatched">Whether what is done may write to the model, and has to be put back.</param>
    private Lease Acquire(bool isWatched)
    {
        while (true)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            if (!IsReady) throw new ReplicaNotReadyException();
            if (mustRepair)
            {
                using var writing = EnterToWrite(CancellationToken.None);
                Repair(CancellationToken.None);
            }

            var isAlone = takesTurns;
            if (isAlone) UntilDisposed(turn.Take, CancellationToken.None);
            var side = Sides[Volatile.Read(ref active)];
            side.Enter();

            // Whoever counts itself in after the sides have changed places must not use the side that is being written; nor one that is being disposed.
            if (!disposed && !mustRepair && isAlone == takesTurns && ReferenceEquals(side, Sides[Volatile.Read(ref active)]))
            {
                try
                {
                    if (isWatched) side.WatchOnce(hasPredicted, ReferenceEquals(side, Sides[0]) ? Sides[1] : Sides[0]);
                    return new Lease(this, side, isWatched, isAlone);
                }
                catch
                {
                    End(side, isAlone);
                    throw;
                }
            }

            End(side, isAlone);
        }
    }

    /// <summary>Ends a use of the model.</summary>
    private void Release(ReplicaSide<TModel> side, bool isWatched, bool isAlone)
    {
        if (isWatched && (isAlone ? side.PutBack() is not null : side.Copy.IsChanged()))
        {
            // Others may be reading it at this moment, so it is put back when they are done, before anybody else uses it.
            lock (spoiling)
            {
                side.IsSpoiled = true;
                mustRepair = true;
                takesTurns = true;
            }
        }

        if (isWatched && !hasPredicted && !mustRepair)
        {
            hasPredicted = true;
            foreach (var each in Sides) each.Trim();
        }

        End(side, isAlone);
    }

    private void End(ReplicaSide<TModel> side, bool isAlone)
    {
        side.Leave();
        if (isAlone) turn.Return();
    }

    /// <summary>Puts back what predictions have written to, where that has just been found out: from copies, or else from the other side.</summary>
    /// <exception cref="ReplicaDivergedException">There is nothing to put it back from.</exception>
    private void Repair(CancellationToken cancellationToken)
    {
        if (!mustRepair) return;
        if (PutBack(Sides[active], cancellationToken) is { } name)
        {
            if (PutBack(Sides[1 - active], cancellationToken) is not null || pendingAll)
            {
                Sides[active].IsSpoiled = true;
                throw new ReplicaDivergedException(
                    $"A prediction has changed the model's tensor '{name}', which no earlier one had done, and no copy of it is left. Start from a snapshot.");
            }

            _ = CatchUp(cancellationToken);
            SetPending(null, all: true);
            Switch();
        }

        lock (spoiling) mustRepair = Sides[active].IsSpoiled;
    }

    /// <summary>Puts back what predictions have written to a side, when nobody uses it any more.</summary>
    /// <returns>The name of a tensor that could not be put back, or null.</returns>
    private string? PutBack(ReplicaSide<TModel> side, CancellationToken cancellationToken)
    {
        WaitForReaders(side, cancellationToken);
        if (!side.IsSpoiled) return null;
        side.IsSpoiled = false;
        return side.PutBack();
    }

    private void WaitForReaders(ReplicaSide<TModel> side, CancellationToken cancellationToken)
    {
        var wait = default(SpinWait);
        while (!side.IsFree && wait.Count < Spins) wait.SpinOnce(sleep1Threshold: -1);

        // Readers that find the side not to be the active one come and go at any time.
        while (!side.IsFree) UntilDisposed(side.WhenFree().Wait, cancellationToken);
    }

    /// <summary>Waits, until the caller cancels it or the replica is disposed.</summary>
    private void UntilDisposed(Action<CancellationToken> wait, CancellationToken cancellationToken)
    {
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, disposing.Token);
        try
        {
            wait(linked.Token);
        }
        catch (OperationCanceledException) when (disposed)
        {
            throw new ObjectDisposedException(GetType().FullName);
        }
        catch (OperationCanceledException)
        {
            throw new OperationCanceledException(cancellationToken);
        }
    }

    /// <summary>Gives back what a side holds, and with the last one what both share.</summary>
    private void Free(ReplicaSide<TModel> side)
    {
        side.Copy.Dispose();
        if (Interlocked.Decrement(ref inUse) > 0) return;
        foreach (var each in Sides) each.State.Dispose();

        SetPending(null, all: false);
    }

    /// <summary>Says what the other side lacks from now on: an update, everything, or nothing.</summary>
    private void SetPending(ModelUpdate? update, bool all)
    {
        pending?.Dispose();
        (pending, pendingAll) = (update, all);
    }

    /// <summary>The use of a replica's model at one sequence. Dispose it when done.</summary>
    public sealed class Lease : IDisposable
    {
        private readonly Replica<TModel> replica;
        private readonly bool isWatched;
        private readonly bool isAlone;
        private ReplicaSide<TModel>? held;

        internal Lease(Replica<TModel> replica, ReplicaSide<TModel> side, bool isWatched, bool isAlone)
        {
            (this.replica, held, this.isWatched, this.isAlone) = (replica, side, isWatched, isAlone);
        }

        /// <summary>The model. It stays the replica's: not to be changed, disposed, or used after the lease.</summary>
        public TModel Model => Held.Copy.Model;

        /// <summary>The training run of its state; <see cref="Guid.Empty"/> where it is not known.</summary>
        public Guid RunId => Held.State.RunId;

        /// <summary>The sequence of its state.</summary>
        public long Sequence => Held.State.Sequence;

        /// <summary>The digest of its state, as it follows from the updates.</summary>
        public ulong Digest => Held.State.Digest;

        /// <summary>Ends the use, and puts back what it has changed in the model. Doing so twice is harmless.</summary>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref held, null) is { } side) replica.Release(side, isWatched, isAlone);
        }

        private ReplicaSide<TModel> Held => held ?? throw new ObjectDisposedException(nameof(Lease));

        internal ModelState State => Held.State;

        internal ulong ComputeDigest() => Held.State.ComputeDigest();

        internal ModelSnapshot CreateSnapshot() => Held.State.CreateSnapshot();
    }

    /// <summary>The turn of one that writes.</summary>
    private readonly struct WritingTurn(SemaphoreSlim semaphore) : IDisposable
    {
        public void Dispose() => semaphore.Release();
    }
}
