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
/// </remarks>
/// <typeparam name="TModule">The type of the module.</typeparam>
public sealed class ModelReplica<TModule> : IDisposable
    where TModule : nn.Module
{
    private readonly Side[] sides;
    private readonly Lock applying = new();
    private int active;
    private ModelUpdate? pending;
    private bool pendingAll;
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
    /// <returns>A lease on the module. Dispose it soon: the second next update waits for it.</returns>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public Lease Acquire()
    {
        while (true)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            var side = sides[Volatile.Read(ref active)];
            Interlocked.Increment(ref side.Readers);

            // Whoever counts itself in after the sides have changed places must not use the side that is being written; nor one that is being disposed.
            if (!disposed && ReferenceEquals(side, sides[Volatile.Read(ref active)])) return new Lease(side);
            Interlocked.Decrement(ref side.Readers);
        }
    }

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
            Interlocked.Exchange(ref active, 1 - active);
        }
    }

    /// <summary>Computes the digest from every value and compares it with the one that follows from the updates. Takes time in proportion to the model's size.</summary>
    /// <returns>Whether the replica's state is exactly the trainer's.</returns>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public bool Verify()
    {
        using var lease = Acquire();
        return lease.ComputeDigest() == lease.Digest;
    }

    /// <summary>Copies the state, for another replica to start from.</summary>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public ModelSnapshot CreateSnapshot()
    {
        using var lease = Acquire();
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
            foreach (var side in sides) side.State.Dispose();
            SetPending(null, all: false);
        }
    }

    /// <summary>Brings the copy that does not answer to the state of the one that does, when the predictions that still use it have ended.</summary>
    /// <returns>The copy, which nobody uses.</returns>
    private ModelState CatchUp()
    {
        WaitForReaders(sides[1 - active]);
        var (next, current) = (sides[1 - active].State, sides[active].State);
        if (pendingAll) next.CopyAll(current);
        else if (pending is not null) next.CatchUp(pending, current);
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
        Interlocked.Exchange(ref active, 1 - active);
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
        private Side? held;

        internal Lease(Side side) => held = side;

        /// <summary>The module, in eval mode. It stays the replica's: not to be changed, disposed, or used after the lease. Run it under <c>torch.no_grad()</c>.</summary>
        public TModule Module => Held.Module;

        /// <summary>The sequence of its state.</summary>
        public long Sequence => Held.State.Sequence;

        /// <summary>The digest of its state, as it follows from the updates.</summary>
        public ulong Digest => Held.State.Digest;

        /// <summary>Ends the use. Doing so twice is harmless.</summary>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref held, null) is { } side) Interlocked.Decrement(ref side.Readers);
        }

        private Side Held => held ?? throw new ObjectDisposedException(nameof(Lease));

        internal ModelState State => Held.State;

        internal ulong ComputeDigest() => Held.State.ComputeDigest();

        internal ModelSnapshot CreateSnapshot() => Held.State.CreateSnapshot();
    }

    /// <summary>One of the two copies of the model.</summary>
    internal sealed class Side(TModule module, ModelState? twin = null)
    {
        /// <summary>How many leases there are on it.</summary>
        public int Readers;

        public TModule Module { get; } = module;

        public ModelState State { get; } = new(ModelTensors.Of(module), twin);
    }
}
