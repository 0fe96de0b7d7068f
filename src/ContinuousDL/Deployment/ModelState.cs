using System.Buffers;
using ContinuousDL.Parameters;
using ContinuousDL.Wire;

namespace ContinuousDL.Deployment;

/// <summary>A model's tensors together with what is known of their state: of which run, at which sequence, with which digest.</summary>
/// <remarks>The tensors stay their owner's. Not thread-safe.</remarks>
internal sealed class ModelState(ModelTensors tensors)
{
    public ModelTensors Tensors { get; } = tensors;

    public ModelLayout Layout => Tensors.Layout;

    /// <summary>The training run; empty until it is known.</summary>
    public Guid RunId { get; private set; }

    public long Sequence { get; private set; }

    public ulong Digest { get; private set; }

    /// <summary>Takes over a snapshot's state.</summary>
    /// <exception cref="ModelMismatchException">It is of another architecture.</exception>
    public void Load(ModelSnapshot snapshot)
    {
        snapshot.CopyTo(Tensors);
        (RunId, Sequence, Digest) = (snapshot.RunId, snapshot.Sequence, snapshot.StateDigest);
    }

    /// <summary>Whether an update leads on from this state; not so when it has the update's state, or a later one, already.</summary>
    /// <exception cref="DeploymentException">The update can't be for this state.</exception>
    public bool Needs(ModelUpdate update)
    {
        if (update.ModelFingerprint != Layout.Fingerprint)
        {
            throw new ModelMismatchException(
                $"The update is for a model with the fingerprint {update.ModelFingerprint:x32}, this one's is {Layout.Fingerprint:x32}: the architectures differ.");
        }

        if (RunId != Guid.Empty && update.RunId != RunId) throw new RunMismatchException(RunId, update.RunId, update.Sequence);
        return Needs(update.BaseSequence, update.Sequence, update.StateDigest);
    }

    /// <summary>Whether the update of a message leads on from this state; not so when it has the update's state, or a later one, already.</summary>
    /// <exception cref="DeploymentException">The update can't be for this state.</exception>
    public bool Needs(in UpdateHeader header)
    {
        if (header.FingerprintTag != UpdateHeader.TagOf(Layout))
        {
            throw new ModelMismatchException(
                $"The message is for a model whose fingerprint ends in {header.FingerprintTag:x8}, this one's is {Layout.Fingerprint:x32}: the architectures differ.");
        }

        // A state of no run in particular learns which one it is from the first update of one.
        var isSameRun = RunId == Guid.Empty ? header.RunId is not null : header.RunTag == UpdateHeader.TagOf(RunId);
        if (!isSameRun) throw new RunMismatchException(RunId, header.RunId, header.Sequence);
        return Needs(header.BaseSequence, header.Sequence, header.StateDigest);
    }

    /// <summary>The digest of the state that an update leads to, computed from its values and those that it replaces.</summary>
    /// <param name="update">An update that leads on from this state.</param>
    /// <param name="knowsPrevious">Whether the previous values that the update has were read from this state, so that they need not be read again.</param>
    /// <exception cref="ReplicaDivergedException">It is not the digest that the update carries.</exception>
    public ulong DigestAfter(ModelUpdate update, bool knowsPrevious = false)
    {
        var digest = update.IsWhole ? 0 : Digest;
        var sections = update.GetSections(Layout);
        while (sections.MoveNext())
        {
            var entry = Layout.Entries[sections.Entry];
            if (update.IsWhole)
            {
                digest += StateDigest.Sum(entry, sections.Values);
            }
            else if (knowsPrevious && !sections.Previous.IsEmpty)
            {
                digest += StateDigest.Change(entry, sections.Coordinates, sections.Previous, sections.Values);
            }
            else
            {
                var rented = ArrayPool<byte>.Shared.Rent(sections.Values.Length);
                var old = rented.AsSpan(0, sections.Values.Length);
                Tensors.Slots[sections.Entry].Read(sections.Coordinates, old);
                digest += StateDigest.Change(entry, sections.Coordinates, old, sections.Values);
                ArrayPool<byte>.Shared.Return(rented);
            }
        }

        return digest == update.StateDigest ? digest : throw new ReplicaDivergedException(
            $"Update {update.Sequence} leads to the digest {digest:x16}, the trainer's is {update.StateDigest:x16}: the replica has drifted, or the update is damaged.");
    }

    /// <summary>Writes an update's values.</summary>
    /// <param name="update">An update that leads on from this state.</param>
    /// <param name="digest">The digest after it, see <see cref="DigestAfter"/>.</param>
    public void Write(ModelUpdate update, ulong digest)
    {
        var sections = update.GetSections(Layout);
        while (sections.MoveNext())
        {
            var slot = Tensors.Slots[sections.Entry];
            if (update.IsWhole) slot.WriteAll(sections.Values);
            else slot.Write(sections.Coordinates, sections.Values);
        }

        (RunId, Sequence, Digest) = (update.RunId, update.Sequence, digest);
    }

    /// <summary>Takes over the values of some coordinates, ascending, from another state of the same model.</summary>
    public void Copy(ReadOnlySpan<int> coordinates, ModelState source)
    {
        for (var rest = coordinates; !rest.IsEmpty;)
        {
            var i = Layout.EntryOf(rest[0]);
            var own = rest[..CoordinateRange.CountBelow(rest, Layout.Entries[i].End)];
            var bytes = own.Length * Layout.Entries[i].ElementSize;
            var rented = ArrayPool<byte>.Shared.Rent(bytes);
            var values = rented.AsSpan(0, bytes);
            source.Tensors.Slots[i].Read(own, values);
            Tensors.Slots[i].Write(own, values);
            ArrayPool<byte>.Shared.Return(rented);
            rest = rest[own.Length..];
        }
    }

    /// <summary>Takes over all values from another state of the same model.</summary>
    public void CopyAll(ModelState source)
    {
        for (var i = 0; i < Tensors.Slots.Length; i++)
        {
            var entry = Layout.Entries[i];
            var bytes = entry.Length * entry.ElementSize;
            var values = ArrayPool<byte>.Shared.Rent(bytes);
            source.Tensors.Slots[i].ReadAll(values.AsSpan(0, bytes));
            Tensors.Slots[i].WriteAll(values.AsSpan(0, bytes));
            ArrayPool<byte>.Shared.Return(values);
        }
    }

    public ModelSnapshot CreateSnapshot() => new(Layout, Tensors.Slots, RunId, Sequence);

    private bool Needs(long baseSequence, long sequence, ulong digest)
    {
        if (sequence == Sequence && digest != Digest)
        {
            throw new ReplicaDivergedException(
                $"Update {sequence} leads to another state than the one that the replica has at that sequence: the replica has drifted. Start from a snapshot.");
        }

        if (sequence <= Sequence) return false;
        if (baseSequence > Sequence) throw new UpdateGapException(Sequence, baseSequence, sequence);
        return true;
    }
}
