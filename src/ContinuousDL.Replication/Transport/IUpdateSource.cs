namespace ContinuousDL.Replication.Transport;

/// <summary>Where a replica's updates come from: a log, a process, a directory, a server, a broker.</summary>
/// <remarks>
/// <para>
/// The replica says where it is, and gets what brings it forward. Nothing else is promised: messages may come more than once,
/// in any order, damaged or not at all, since the replica checks each one and asks again from where it is then. A source keeps
/// nothing about its replicas, and any number may ask.
/// </para>
/// <para>Thread-safe.</para>
/// </remarks>
public interface IUpdateSource
{
    /// <summary>Gets what brings a replica from its state to a newer one, and waits where there is none yet.</summary>
    /// <param name="runId">The training run that the replica follows. <see cref="Guid.Empty"/>: it has no state to go on from, and needs a snapshot.</param>
    /// <param name="sequence">The sequence of its state.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>
    /// Updates from that state on; or a snapshot and what follows it, where the state is of another run, too old, or not one
    /// that the source knows, or where that is smaller. When there is nothing new for a while (a second, for most of the library's
    /// sources) an empty batch, so that the replica knows that the source is there.
    /// </returns>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled.</exception>
    /// <exception cref="IOException">The source can't be reached now, or is damaged; an <see cref="UpdateSourceUnavailableException"/> may say when to ask again.</exception>
    ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default);
}
