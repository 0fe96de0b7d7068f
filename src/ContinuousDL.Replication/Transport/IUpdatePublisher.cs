using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Transport;

/// <summary>Where a trainer's updates go, for any number of replicas to get them.</summary>
/// <remarks>There is one publisher for a run at a time. When a call has returned, what was published is not lost any more, as far as the transport keeps anything.</remarks>
public interface IUpdatePublisher
{
    /// <summary>Publishes an update of the run. Publishing it again does nothing.</summary>
    /// <param name="update">
    /// The update that leads on from the newest published state: to the next sequence, or to any later one where the updates
    /// in between were not published, as a trainer's <c>ContinueFrom</c> makes it. It stays the caller's.
    /// </param>
    /// <param name="cancellationToken">Gives up before anything is published.</param>
    /// <exception cref="DeploymentException">It does not lead on from that state.</exception>
    /// <exception cref="InvalidOperationException">No snapshot was published yet.</exception>
    ValueTask PublishAsync(ModelUpdate update, CancellationToken cancellationToken = default);

    /// <summary>Publishes a state for replicas to start from: the first one of a run, or the newest one.</summary>
    /// <param name="snapshot">The state.</param>
    /// <param name="cancellationToken">Gives up before anything is published.</param>
    /// <exception cref="DeploymentException">Another state was published under its sequence, or later ones.</exception>
    /// <exception cref="ArgumentException">It is of no run.</exception>
    ValueTask PublishAsync(ModelSnapshot snapshot, CancellationToken cancellationToken = default);
}

/// <summary>Both ends of a way for updates, in one object.</summary>
public interface IUpdateTransport : IUpdatePublisher, IUpdateSource;
