using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Transport;

/// <summary>The newest published state, and what may be published after it. Not thread-safe.</summary>
public sealed class PublishedHead : IDisposable
{
    /// <summary>The state; null until there is one.</summary>
    public ModelState? State { get; private set; }

    /// <summary>The state.</summary>
    /// <exception cref="InvalidOperationException">There is none yet.</exception>
    public ModelState Required => State ?? throw new InvalidOperationException(
        "There is no snapshot yet: updates need a state to start from. Publish a snapshot first.");

    /// <summary>Makes a snapshot's state the newest.</summary>
    public void Start(ModelSnapshot snapshot)
    {
        if (State is null || State.Layout.Fingerprint != snapshot.Layout.Fingerprint)
        {
            State = new ModelState(new ModelArrays(snapshot.Layout));
        }

        State.Load(snapshot);
    }

    /// <summary>Whether an update leads on from the state; not so when its sequence was published already.</summary>
    /// <exception cref="DeploymentException">It can't be published after this state.</exception>
    /// <exception cref="InvalidOperationException">There is no state yet.</exception>
    public bool LeadsOn(ModelUpdate update)
    {
        var state = Required;
        if (update.RunId != state.RunId) throw new RunMismatchException(state.RunId, update.RunId, update.Sequence);
        if (update.Sequence == state.Sequence && update.StateDigest != state.Digest) throw Conflict(update, state.Digest);
        return update.Sequence > state.Sequence && state.Needs(update);
    }

    /// <summary>Whether a snapshot starts anew: there is no state, or it is of another run or a later state; not so when it is of exactly this state.</summary>
    /// <exception cref="ArgumentException">It is of no run.</exception>
    /// <exception cref="UpdateConflictException">It is of an earlier state of the same run, or another state of the same sequence.</exception>
    public bool IsStart(ModelSnapshot snapshot)
    {
        if (snapshot.RunId == Guid.Empty) throw new ArgumentException("The snapshot is of no training run; what is published is of one.", nameof(snapshot));
        if (State is null || snapshot.RunId != State.RunId || snapshot.Sequence > State.Sequence) return true;
        if (snapshot.Sequence == State.Sequence && snapshot.StateDigest == State.Digest) return false;
        throw new UpdateConflictException(
            $"The snapshot is of sequence {snapshot.Sequence} with the digest {snapshot.StateDigest:x16}, the newest state is {State.Sequence} with {State.Digest:x16}: of the same run, only that state or a later one can be published.",
            snapshot.Sequence);
    }

    /// <summary>Says that another update was published under a sequence.</summary>
    public static UpdateConflictException Conflict(ModelUpdate update, ulong digest) => new(
        $"Update {update.Sequence} leads to the digest {update.StateDigest:x16}; one that leads to {digest:x16} was published under that sequence.",
        update.Sequence);

    /// <summary>Lets the state go.</summary>
    public void Dispose() => State?.Dispose();
}
