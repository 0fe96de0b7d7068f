using System.Buffers;
using ContinuousDL.Parameters;
using static TorchSharp.torch;

namespace ContinuousDL.Deployment;

/// <summary>
/// A serving model that follows a trainer: it answers from any number of threads while updates are applied to it, every answer
/// comes from exactly one sequence, and an update that would not lead to the trainer's exact state is refused.
/// </summary>
/// <remarks>
/// It holds two copies of the model: one that answers, one that the next update is applied to while nobody uses it; then they
/// change places. So predictions never wait for an update. <see cref="Apply"/> waits for predictions that still use the copy
/// it needs, which are those that began before the last update. Thread-safe.
/// </remarks>
/// <typeparam name="TModule">The type of the module.</typeparam>
public sealed class ModelReplica<TModule> : IDisposable
    where TModule : nn.Module
{
    private readonly Side[] sides;
    private readonly Lock applying = new();
    private int active;
    private int[] pending = [];
    private int pendingCount;
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
            sides = [new Side(first), new Side(second)];
            foreach (var side in sides)
            {
                snapshot.CopyTo(side.Model);
                side.Module.eval();
                side.Sequence = snapshot.Sequence;
                side.Digest = snapshot.StateDigest;
            }
        }
        catch
        {
            first.Dispose();
            second.Dispose();
            throw;
        }
    }

    /// <summary>The sequence of the state that answers.</summary>
    public long Sequence => sides[Volatile.Read(ref active)].Sequence;

    /// <summary>The digest of the state that answers, as it follows from the updates. <see cref="Verify"/> computes it from the values.</summary>
    public ulong Digest => sides[Volatile.Read(ref active)].Digest;

    /// <summary>The model's tensors and their coordinates.</summary>
    public ModelLayout Layout => sides[0].Model.Layout;

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
    /// <exception cref="ReplicaDivergedException">The update does not lead from the replica's state to the trainer's.</exception>
    /// <exception cref="ObjectDisposedException">The replica or the update is disposed.</exception>
    public bool Apply(ModelUpdate update)
    {
        ArgumentNullException.ThrowIfNull(update);
        lock (applying)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            var current = sides[active];
            var next = sides[1 - active];
            if (update.ModelFingerprint != Layout.Fingerprint)
            {
                throw new ModelMismatchException(
                    $"The update is for a model with the fingerprint {update.ModelFingerprint:x32}, the replica's is {Layout.Fingerprint:x32}: the architectures differ.");
            }

            if (update.Sequence == current.Sequence && update.StateDigest != current.Digest)
            {
                throw new ReplicaDivergedException(
                    $"Update {update.Sequence} leads to another state than the one that the replica has at that sequence: it is of another trainer, or of another run. Start from a snapshot.");
            }

            if (update.Sequence <= current.Sequence) return false;
            if (update.BaseSequence > current.Sequence) throw new UpdateGapException(current.Sequence, update);

            var digest = DigestAfter(update, current);
            if (digest != update.StateDigest)
            {
                throw new ReplicaDivergedException(
                    $"Update {update.Sequence} leads to the digest {digest:x16}, the trainer's is {update.StateDigest:x16}: the replica has drifted, or the update is damaged.");
            }

            WaitForReaders(next);
            CatchUp(next, current);
            Write(update, next);
            next.Sequence = update.Sequence;
            next.Digest = digest;
            Remember(update);
            Interlocked.Exchange(ref active, 1 - active);
            return true;
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

            if (pending.Length > 0) ArrayPool<int>.Shared.Return(pending);
            pending = [];
        }
    }

    private static void WaitForReaders(Side side)
    {
        var wait = default(SpinWait);
        while (Volatile.Read(ref side.Readers) > 0) wait.SpinOnce();
    }

    private static ulong DigestAfter(ModelUpdate update, Side side)
    {
        var layout = side.Model.Layout;
        var digest = update.IsWhole ? 0 : side.Digest;
        var sections = update.GetSections(layout);
        while (sections.MoveNext())
        {
            var entry = layout.Entries[sections.Entry];
            if (update.IsWhole)
            {
                digest += StateDigest.Sum(entry, sections.Values);
                continue;
            }

            var coordinates = sections.Coordinates;
            var rented = ArrayPool<ulong>.Shared.Rent(coordinates.Length);
            var old = rented.AsSpan(0, coordinates.Length);
            side.Model.Slots[sections.Entry].Read(coordinates, old);
            for (var j = 0; j < coordinates.Length; j++)
            {
                digest += StateDigest.Change(coordinates[j], old[j], Scalars.Load(sections.Values, j, entry.ElementSize));
            }

            ArrayPool<ulong>.Shared.Return(rented);
        }

        return digest;
    }

    private static void Write(ModelUpdate update, Side side)
    {
        var layout = side.Model.Layout;
        var sections = update.GetSections(layout);
        while (sections.MoveNext())
        {
            var slot = side.Model.Slots[sections.Entry];
            if (update.IsWhole)
            {
                slot.WriteAll(sections.Values);
                continue;
            }

            var coordinates = sections.Coordinates;
            var rented = ArrayPool<ulong>.Shared.Rent(coordinates.Length);
            var bits = rented.AsSpan(0, coordinates.Length);
            for (var j = 0; j < bits.Length; j++) bits[j] = Scalars.Load(sections.Values, j, slot.Entry.ElementSize);
            slot.Write(coordinates, bits);
            ArrayPool<ulong>.Shared.Return(rented);
        }
    }

    /// <summary>Brings the side that did not get the last update to the state of the one that did.</summary>
    private void CatchUp(Side behind, Side current)
    {
        if (pendingAll)
        {
            for (var i = 0; i < current.Model.Slots.Length; i++) Copy(current.Model.Slots[i], behind.Model.Slots[i]);
            return;
        }

        for (ReadOnlySpan<int> rest = pending.AsSpan(0, pendingCount); !rest.IsEmpty;)
        {
            var i = Layout.EntryOf(rest[0]);
            var coordinates = rest[..CoordinateRange.CountBelow(rest, Layout.Entries[i].End)];
            var rented = ArrayPool<ulong>.Shared.Rent(coordinates.Length);
            var bits = rented.AsSpan(0, coordinates.Length);
            current.Model.Slots[i].Read(coordinates, bits);
            behind.Model.Slots[i].Write(coordinates, bits);
            ArrayPool<ulong>.Shared.Return(rented);
            rest = rest[coordinates.Length..];
        }
    }

    private static void Copy(TensorSlot from, TensorSlot to)
    {
        var bytes = from.Entry.Length * from.Entry.ElementSize;
        var values = ArrayPool<byte>.Shared.Rent(bytes);
        from.ReadAll(values.AsSpan(0, bytes));
        to.WriteAll(values.AsSpan(0, bytes));
        ArrayPool<byte>.Shared.Return(values);
    }

    /// <summary>Keeps the coordinates of an update, which the other side still lacks.</summary>
    private void Remember(ModelUpdate update)
    {
        pendingAll = update.IsWhole;
        pendingCount = update.IsWhole ? 0 : update.Count;
        if (pending.Length < pendingCount)
        {
            if (pending.Length > 0) ArrayPool<int>.Shared.Return(pending);
            pending = ArrayPool<int>.Shared.Rent(pendingCount);
        }

        update.Coordinates.CopyTo(pending);
    }

    /// <summary>The use of a replica's model at one sequence. Dispose it when done.</summary>
    public sealed class Lease : IDisposable
    {
        private Side? held;

        internal Lease(Side side) => held = side;

        /// <summary>The module, in eval mode. It stays the replica's: not to be changed, disposed, or used after the lease. Run it under <c>torch.no_grad()</c>.</summary>
        public TModule Module => Held.Module;

        /// <summary>The sequence of its state.</summary>
        public long Sequence => Held.Sequence;

        /// <summary>The digest of its state, as it follows from the updates.</summary>
        public ulong Digest => Held.Digest;

        /// <summary>Ends the use. Doing so twice is harmless.</summary>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref held, null) is { } side) Interlocked.Decrement(ref side.Readers);
        }

        private Side Held => held ?? throw new ObjectDisposedException(nameof(Lease));

        internal ulong ComputeDigest() => Held.Model.ComputeDigest();

        internal ModelSnapshot CreateSnapshot() => new(Held.Model.Layout, Held.Model.Slots, Held.Sequence);
    }

    /// <summary>One of the two copies of the model.</summary>
    internal sealed class Side(TModule module)
    {
        /// <summary>How many leases there are on it.</summary>
        public int Readers;

        public TModule Module { get; } = module;

        public ModelTensors Model { get; } = ModelTensors.Of(module);

        public long Sequence { get; set; }

        public ulong Digest { get; set; }
    }
}
