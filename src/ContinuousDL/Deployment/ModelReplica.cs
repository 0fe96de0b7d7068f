using ContinuousDL.Parameters;
using ContinuousDL.Wire;
using static TorchSharp.torch;

namespace ContinuousDL.Deployment;

/// <summary>
/// A serving model that follows a trainer: it answers from any number of threads while updates are applied to it, every answer
/// comes from exactly one sequence, and an update that would not lead to the trainer's exact state is refused.
/// </summary>
/// <remarks>
/// It holds two copies of the model, one that answers and one that the next update is applied to while nobody uses it, upon which
/// they change places; and the last update, which the other copy still lacks. So predictions never wait for an update.
/// <see cref="Apply(ModelUpdate)"/> waits for predictions that still use the copy it needs, which are those that began before the
/// last update. Thread-safe.
/// <para>
/// Its parameters and buffers are the trainer's, bit for bit. Its answers are as reproducible as libtorch's operations: they may
/// differ in their last bits between processors and numbers of threads, and have been seen to do so from call to call with an
/// <c>InstanceNorm</c> that has running statistics.
/// </para>
/// <para>
/// A prediction changes nothing. Some modules write to their own tensors in eval mode, too: an embedding with a <c>max_norm</c>,
/// instance normalisation with running statistics, a counter. What they write is put back when the lease ends, and leases
/// are given out one at a time then, so that no prediction sees half of what another one writes. Embeddings and instance
/// normalisation are known from the start, others once they have been seen to do so. A first prediction takes a copy of the model
/// to be able to put back anything; later ones compare buffers, and ask libtorch whether it has written to a parameter.
/// </para>
/// </remarks>
/// <typeparam name="TModule">The type of the module.</typeparam>
public sealed class ModelReplica<TModule> : IDisposable
    where TModule : nn.Module
{
    private readonly Side[] sides;
    private readonly Lock applying = new();
    private readonly Lock spoiling = new();
    private readonly Turn turn = new();
    private int active;
    private ModelUpdate? pending;
    private bool pendingAll;
    private volatile bool hasPredicted;
    private volatile bool takesTurns;
    private volatile bool mustRepair;
    private volatile bool disposed;

    /// <summary>Makes a replica that starts from a snapshot.</summary>
    /// <param name="create">Makes a module of the trainer's architecture; called twice. The replica owns the modules, and keeps them in eval mode.</param>
    /// <param name="snapshot">The state to start from.</param>
    /// <exception cref="ModelMismatchException">The modules' architecture is another than the snapshot's; the message names the first difference.</exception>
    public ModelReplica(Func<TModule> create, ModelSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(create);
        ArgumentNullException.ThrowIfNull(snapshot);
        var first = create() ?? throw new ArgumentException("The function returned null.", nameof(create));
        var second = create() ?? throw new ArgumentException("The function returned null.", nameof(create));
        if (ReferenceEquals(first, second)) throw new ArgumentException("The function must make a new module at every call.", nameof(create));
        try
        {
            var original = new Side(first);
            sides = [original, new Side(second, original.State)];
            takesTurns = SelfWritingModules.Any(first);
            foreach (var side in sides)
            {
                side.State.Load(snapshot);
                side.Module.eval();
            }
        }
        catch
        {
            first.Dispose();
            second.Dispose();
            throw;
        }
    }

    /// <summary>The training run that the replica follows; <see cref="Guid.Empty"/> until it is known.</summary>
    public Guid RunId => sides[Volatile.Read(ref active)].State.RunId;

    /// <summary>The sequence of the state that answers.</summary>
    public long Sequence => sides[Volatile.Read(ref active)].State.Sequence;

    /// <summary>The digest of the state that answers, as it follows from the updates. <see cref="Verify"/> computes it from the values.</summary>
    public ulong Digest => sides[Volatile.Read(ref active)].State.Digest;

    /// <summary>The model's tensors and their coordinates.</summary>
    public ModelLayout Layout => sides[0].State.Layout;

    /// <summary>Uses the model: it stays at one sequence until the result is disposed.</summary>
    /// <returns>
    /// A lease on the module. Dispose it soon: the second next update waits for it. Where the model writes to its own tensors in
    /// eval mode, the next update does, and so does the next lease on another thread.
    /// </returns>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    /// <exception cref="ReplicaDivergedException">A prediction has changed the model, and no copy was left to put it back from; the message names what changed. A snapshot helps.</exception>
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
    /// <exception cref="ObjectDisposedException">The replica or the update is disposed.</exception>
    public bool Apply(ModelUpdate update)
    {
        ArgumentNullException.ThrowIfNull(update);
        lock (applying)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            Repair();
            if (!sides[active].State.Needs(update)) return false;
            var next = CatchUp();
            Advance(next, update, next.DigestAfter(update), isOwn: false);
            return true;
        }
    }

    /// <summary>Applies the update of a message, atomically.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <param name="codec">What reads it, and checks its signature if it has a key.</param>
    /// <returns>True when it was applied, false when the replica has that state or a later one already.</returns>
    /// <remarks>As <see cref="Apply(ModelUpdate)"/>: after any exception the replica is as it was, and a thread that holds a lease must not call it.</remarks>
    /// <exception cref="WireFormatException">The bytes are not a message of the format, or not one for this model.</exception>
    /// <exception cref="UpdateSignatureException">The codec has a key, and the message is not signed by it.</exception>
    /// <exception cref="ModelMismatchException">The update is for another architecture.</exception>
    /// <exception cref="UpdateGapException">Updates before this one are missing.</exception>
    /// <exception cref="RunMismatchException">The update is of another training run.</exception>
    /// <exception cref="ReplicaDivergedException">The update does not lead from the replica's state to the trainer's.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public bool Apply(ReadOnlySpan<byte> message, UpdateCodec codec)
    {
        ArgumentNullException.ThrowIfNull(codec);
        lock (applying)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            Repair();
            var frame = codec.Open(message);
            if (!sides[active].State.Needs(frame.Header)) return false;

            // Its old values are read where the new ones are going to be written, so that this memory is in the cache then.
            var next = CatchUp();
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
    }

    /// <summary>Makes a snapshot's state the replica's, atomically: of a later sequence, an earlier one, or another run.</summary>
    /// <param name="snapshot">The state to go on from.</param>
    /// <remarks>As with <see cref="Apply(ModelUpdate)"/>, not to be called by a thread that holds a lease.</remarks>
    /// <exception cref="ModelMismatchException">It is of a model of another architecture. The replica is as it was.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public void Restore(ModelSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        lock (applying)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            var next = sides[1 - active];
            WaitForReaders(next);
            SetPending(null, all: true);
            next.State.Load(snapshot);
            foreach (var side in sides) side.IsSpoiled = false;
            mustRepair = false;
            Switch();
        }
    }

    /// <summary>Computes the digest from every value and compares it with the one that follows from the updates. Takes time in proportion to the model's size.</summary>
    /// <returns>Whether the replica's state is exactly the trainer's.</returns>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public bool Verify()
    {
        using var lease = Acquire(isWatched: false);
        return lease.ComputeDigest() == lease.Digest;
    }

    /// <summary>Copies the state, for another replica to start from.</summary>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public ModelSnapshot CreateSnapshot()
    {
        using var lease = Acquire(isWatched: false);
        return lease.CreateSnapshot();
    }

    /// <summary>Disposes the modules, when the predictions under way have ended.</summary>
    public void Dispose()
    {
        lock (applying)
        {
            if (disposed) return;
            disposed = true;
            foreach (var side in sides)
            {
                WaitForReaders(side);
                side.Module.Dispose();
            }

            // Only now: the sides may share what they have taken.
            foreach (var side in sides)
            {
                side.State.Dispose();
                side.Guard.Dispose();
            }

            SetPending(null, all: false);
        }
    }

    /// <summary>Brings the copy that does not answer to the state of the one that does, when the predictions that still use it have ended.</summary>
    /// <returns>The copy, which nobody uses.</returns>
    private ModelState CatchUp()
    {
        if (PutBack(sides[1 - active]) is not null) SetPending(null, all: true);
        var (next, current) = (sides[1 - active].State, sides[active].State);

        // What a prediction has written to for the moment must not be taken for the state.
        var isAlone = takesTurns;
        if (isAlone) turn.Take();
        try
        {
            if (pendingAll) next.CopyAll(current);
            else if (pending is not null) next.CatchUp(pending, current);
        }
        finally
        {
            if (isAlone) turn.Return();
        }

        if (!isAlone && pendingAll && sides[active].IsGuarded && sides[active].Guard.IsChanged())
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
        sides[1 - active].IsGuarded = false;
        Interlocked.Exchange(ref active, 1 - active);
    }

    /// <summary>Uses the model.</summary>
    /// <param name="isWatched">Whether what is done may write to the model, and has to be put back.</param>
    private Lease Acquire(bool isWatched)
    {
        while (true)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            if (mustRepair)
            {
                lock (applying) Repair();
            }

            var isAlone = takesTurns;
            if (isAlone) turn.Take();
            var side = sides[Volatile.Read(ref active)];
            Interlocked.Increment(ref side.Readers);

            // Whoever counts itself in after the sides have changed places must not use the side that is being written; nor one that is being disposed.
            if (!disposed && !mustRepair && isAlone == takesTurns && ReferenceEquals(side, sides[Volatile.Read(ref active)]))
            {
                if (isWatched) side.GuardOnce(hasPredicted, ReferenceEquals(side, sides[0]) ? sides[1] : sides[0]);
                return new Lease(this, side, isWatched, isAlone);
            }

            Interlocked.Decrement(ref side.Readers);
            if (isAlone) turn.Return();
        }
    }

    /// <summary>Ends a use of the model.</summary>
    private void Release(Side side, bool isWatched, bool isAlone)
    {
        if (isWatched && (isAlone ? side.PutBack() is not null : side.Guard.IsChanged()))
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
            foreach (var each in sides) each.TrimGuard();
        }

        Interlocked.Decrement(ref side.Readers);
        if (isAlone) turn.Return();
    }

    /// <summary>Puts back what predictions have written to, where that has just been found out: from copies, or else from the other side.</summary>
    /// <exception cref="ReplicaDivergedException">There is nothing to put it back from.</exception>
    private void Repair()
    {
        if (!mustRepair) return;
        if (PutBack(sides[active]) is { } name)
        {
            if (PutBack(sides[1 - active]) is not null || pendingAll)
            {
                sides[active].IsSpoiled = true;
                throw new ReplicaDivergedException(
                    $"A prediction has changed the model's tensor '{name}', which no earlier one had done, and no copy of it is left. Start from a snapshot.");
            }

            _ = CatchUp();
            SetPending(null, all: true);
            Switch();
        }

        lock (spoiling) mustRepair = sides[active].IsSpoiled;
    }

    /// <summary>Puts back what predictions have written to a side, when nobody uses it any more.</summary>
    /// <returns>The name of a tensor that could not be put back, or null.</returns>
    private static string? PutBack(Side side)
    {
        WaitForReaders(side);
        if (!side.IsSpoiled) return null;
        side.IsSpoiled = false;
        return side.PutBack();
    }

    private static void WaitForReaders(Side side)
    {
        var wait = default(SpinWait);
        while (Volatile.Read(ref side.Readers) > 0) wait.SpinOnce();
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
        private readonly ModelReplica<TModule> replica;
        private readonly bool isWatched;
        private readonly bool isAlone;
        private Side? held;

        internal Lease(ModelReplica<TModule> replica, Side side, bool isWatched, bool isAlone) =>
            (this.replica, held, this.isWatched, this.isAlone) = (replica, side, isWatched, isAlone);

        /// <summary>The module, in eval mode. It stays the replica's: not to be changed, disposed, or used after the lease. Run it under <c>torch.no_grad()</c>.</summary>
        public TModule Module => Held.Module;

        /// <summary>The sequence of its state.</summary>
        public long Sequence => Held.State.Sequence;

        /// <summary>The digest of its state, as it follows from the updates.</summary>
        public ulong Digest => Held.State.Digest;

        /// <summary>Ends the use, and puts back what it has changed in the model. Doing so twice is harmless.</summary>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref held, null) is { } side) replica.Release(side, isWatched, isAlone);
        }

        private Side Held => held ?? throw new ObjectDisposedException(nameof(Lease));

        internal ModelState State => Held.State;

        internal ulong ComputeDigest() => Held.State.ComputeDigest();

        internal ModelSnapshot CreateSnapshot() => Held.State.CreateSnapshot();
    }

    /// <summary>One of the two copies of the model.</summary>
    internal sealed class Side
    {
        /// <summary>How many leases there are on it.</summary>
        public int Readers;

        /// <summary>Whether <see cref="Guard"/> knows its present state.</summary>
        public volatile bool IsGuarded;

        /// <summary>Whether a prediction has changed it, and it has not been put back yet.</summary>
        public volatile bool IsSpoiled;

        public Side(TModule module, ModelState? twin = null)
        {
            Module = module;
            var tensors = ModelTensors.Of(module);
            State = new ModelState(tensors, twin);
            Guard = new StateGuard([.. tensors.Slots, .. NonPersistentBuffers.Of(module, tensors.Slots)]);
        }

        public TModule Module { get; }

        public ModelState State { get; }

        public StateGuard Guard { get; }

        /// <summary>Makes the guard know the present state, if it does not, before anything is done with it.</summary>
        /// <param name="knowsWrites">Whether a prediction has shown already what it writes to.</param>
        /// <param name="other">The other side, where it may have shown it.</param>
        public void GuardOnce(bool knowsWrites, Side other)
        {
            if (IsGuarded) return;
            lock (Guard)
            {
                if (IsGuarded) return;
                Guard.Learn(other.Guard);
                Guard.Settle();
                Guard.Save(knowsWrites ? null : static _ => true);
                IsGuarded = true;
            }
        }

        /// <summary>Puts back what was written to. Nobody else may be using it.</summary>
        /// <returns>The name of a tensor that could not be put back, or null.</returns>
        public string? PutBack()
        {
            lock (Guard)
            {
                Guard.Look();
                Guard.Restore();
                return Guard.FirstNotRestored();
            }
        }

        /// <summary>Lets go of copies that nothing has turned out to need.</summary>
        public void TrimGuard()
        {
            lock (Guard) Guard.Trim();
        }
    }

    /// <summary>Lets one thread at a time go on, which may do so several times over.</summary>
    private sealed class Turn
    {
        private readonly object gate = new();
        private int owner;
        private int depth;

        public void Take()
        {
            lock (gate)
            {
                while (depth > 0 && owner != Environment.CurrentManagedThreadId) Monitor.Wait(gate);
                owner = Environment.CurrentManagedThreadId;
                depth++;
            }
        }

        /// <remarks>By any thread: a lease may end on another one than it began on.</remarks>
        public void Return()
        {
            lock (gate)
            {
                if (--depth == 0) Monitor.Pulse(gate);
            }
        }
    }
}
