using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>One copy of a model together with what is known of its state: of which run, at which sequence, with which digest.</summary>
/// <remarks>Decides which update leads on from it, and checks where that leads before anything is written. Not thread-safe.</remarks>
/// <param name="tensors">The copy's values. Disposed with the state.</param>
public sealed class ModelState(ITensorAccess tensors) : IDisposable
{
    /// <summary>The copy's values.</summary>
    public ITensorAccess Tensors { get; } = tensors ?? throw new ArgumentNullException(nameof(tensors));

    /// <summary>The model's tensors and their coordinates.</summary>
    public ModelLayout Layout => Tensors.Layout;

    /// <summary>The training run; empty until it is known.</summary>
    public Guid RunId { get; private set; }

    /// <summary>The sequence of the state.</summary>
    public long Sequence { get; private set; }

    /// <summary>The digest of the state, as it follows from snapshots and updates.</summary>
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
        var digest = update.IsWhole ? WholeDigest(update)
            : Digest + (knowsPrevious && !update.PreviousValues.IsEmpty ? KnownChange(update) : Tensors.DigestChange(update));
        return digest == update.StateDigest ? digest : throw new ReplicaDivergedException(
            $"Update {update.Sequence} leads to the digest {digest:x16}, the trainer's is {update.StateDigest:x16}: the replica has drifted, or the update is damaged.");
    }

    /// <summary>Writes an update's values.</summary>
    /// <param name="update">An update that leads on from this state.</param>
    /// <param name="digest">The digest after it, see <see cref="DigestAfter"/>.</param>
    public void Write(ModelUpdate update, ulong digest)
    {
        Tensors.Write(update);
        (RunId, Sequence, Digest) = (update.RunId, update.Sequence, digest);
    }

    /// <summary>Becomes another state of the same model, which is ahead by an update.</summary>
    public void CatchUp(ModelUpdate update, ModelState source)
    {
        Tensors.CatchUp(update, source.Tensors);
        (RunId, Sequence, Digest) = (source.RunId, source.Sequence, source.Digest);
    }

    /// <summary>Becomes another state of the same model.</summary>
    public void CopyAll(ModelState source)
    {
        Tensors.CopyFrom(source.Tensors);
        (RunId, Sequence, Digest) = (source.RunId, source.Sequence, source.Digest);
    }

    /// <summary>Checks that the values are still those of the digest. For when an update makes no sense with them, since it takes a look at every value.</summary>
    /// <param name="sequence">The update's sequence.</param>
    /// <exception cref="ReplicaDivergedException">They are not.</exception>
    public void CheckDrift(long sequence)
    {
        if (ComputeDigest() == Digest) return;
        throw new ReplicaDivergedException(
            $"Update {sequence} makes no sense with the replica's values, which are not those that it was given: the replica has drifted. Start from a snapshot.");
    }

    /// <summary>The digest, computed from every value.</summary>
    public ulong ComputeDigest() => Tensors.ComputeDigest();

    /// <summary>Reads the values of some coordinates, ascending, packed.</summary>
    public void Read(ReadOnlySpan<int> coordinates, Span<byte> values) => Tensors.Read(coordinates, values);

    /// <summary>Disposes the access to the values.</summary>
    public void Dispose() => Tensors.Dispose();

    /// <summary>Copies the state.</summary>
    public ModelSnapshot CreateSnapshot() => ModelSnapshot.Of(Tensors, RunId, Sequence);

    private static ulong WholeDigest(ModelUpdate update)
    {
        var digest = 0ul;
        var runs = update.GetRuns();
        while (runs.MoveNext()) digest += StateDigest.Sum(runs.Entry, runs.Values);
        return digest;
    }

    /// <summary>The change of the digest by an update of some coordinates, if its previous values are those of this state.</summary>
    private static ulong KnownChange(ModelUpdate update)
    {
        var change = 0ul;
        var runs = update.GetRuns();
        while (runs.MoveNext()) change += StateDigest.Change(runs.Entry, runs.Coordinates, runs.Previous, runs.Values);
        return change;
    }

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
