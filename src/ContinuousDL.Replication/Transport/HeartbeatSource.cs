namespace ContinuousDL.Replication.Transport;

/// <summary>A source with signed heartbeats, which come from elsewhere: of a trainer in the same process, or from a file beside the log that is followed.</summary>
/// <remarks>Thread-safe where what it is made of is.</remarks>
public sealed class HeartbeatSource : IUpdateSource
{
    private readonly IUpdateSource source;
    private readonly Func<byte[]?> heartbeat;

    /// <summary>Makes a source.</summary>
    /// <param name="source">Where updates come from. It stays the caller's.</param>
    /// <param name="heartbeat">The newest heartbeat, such as <see cref="HeartbeatSigner.Sign"/>; null where there is none. May throw an <see cref="IOException"/>.</param>
    public HeartbeatSource(IUpdateSource source, Func<byte[]?> heartbeat)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(heartbeat);
        this.source = source;
        this.heartbeat = heartbeat;
    }

    /// <inheritdoc />
    public async ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
    {
        var batch = await source.ReceiveAsync(runId, sequence, cancellationToken).ConfigureAwait(false);
        return heartbeat() is { } message ? batch.WithHeartbeat(message) : batch;
    }
}
