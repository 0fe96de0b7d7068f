using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Replication.Replicas;

/// <summary>A copy of the model that a <see cref="ReplicaFollower"/> keeps at the trainer's newest state.</summary>
/// <remarks>Thread-safe.</remarks>
public interface IReplica
{
    /// <summary>Whether the replica has a state to answer from.</summary>
    bool IsReady { get; }

    /// <summary>The training run that the replica follows; <see cref="Guid.Empty"/> until it is known.</summary>
    Guid RunId { get; }

    /// <summary>The sequence of the state that answers; 0 without one.</summary>
    long Sequence { get; }

    /// <summary>The digest of the state that answers; 0 without one.</summary>
    ulong Digest { get; }

    /// <summary>Applies the update of a message, atomically.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <param name="codec">The codec that reads it, and checks its signature if it has a key.</param>
    /// <param name="cancellationToken">Ends the wait for those that use the state. The replica is as it was then.</param>
    /// <returns>True when it was applied, false when the replica has that state or a later one already.</returns>
    /// <exception cref="DeploymentException">The update can't be applied. The replica is as it was.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    bool Apply(ReadOnlySpan<byte> message, UpdateCodec codec, CancellationToken cancellationToken);

    /// <summary>Makes a snapshot's state the replica's, atomically: of a later sequence, an earlier one, or another run.</summary>
    /// <param name="snapshot">The state to go on from.</param>
    /// <param name="cancellationToken">Ends the wait for those that use the state. The replica is as it was then.</param>
    /// <exception cref="ModelMismatchException">It is of a model of another architecture. The replica is as it was.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    void Restore(ModelSnapshot snapshot, CancellationToken cancellationToken);

    /// <summary>Waits until nobody uses what the next update needs, so that applying it would not wait.</summary>
    /// <param name="timeout">The longest wait.</param>
    /// <param name="timeProvider">The clock.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Whether nobody does; false when the time has passed.</returns>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    ValueTask<bool> WaitUntilWritableAsync(TimeSpan timeout, TimeProvider timeProvider, CancellationToken cancellationToken);
}
