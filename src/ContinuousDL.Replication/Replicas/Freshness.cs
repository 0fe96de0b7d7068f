using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Replication.Replicas;

/// <summary>
/// Whether a follower can still believe that its source tells it of the newest state: where it has a key, by signed heartbeats,
/// which nobody on the way can make or keep for long; otherwise by answers alone.
/// </summary>
/// <remarks>Not thread-safe.</remarks>
/// <param name="codec">Checks heartbeats.</param>
/// <param name="limit">How long there may be no sign; null to watch for nothing.</param>
/// <param name="timeProvider">The clock.</param>
internal sealed class Freshness(UpdateCodec codec, TimeSpan? limit, TimeProvider timeProvider)
{
    private readonly bool needsHeartbeats = codec.ChecksSignatures;
    private long heard = timeProvider.GetTimestamp();
    private string? problem;

    /// <summary>Whether there is a limit.</summary>
    public bool IsWatched => limit is not null;

    /// <summary>Since when there was no sign.</summary>
    public TimeSpan Silence => timeProvider.GetElapsedTime(heard);

    /// <summary>How long there may still be no sign; not more than zero where there was none for too long.</summary>
    public TimeSpan Remaining => (limit ?? Timeout.InfiniteTimeSpan) - Silence;

    /// <summary>The content of the newest heartbeat; null before the first.</summary>
    public UpdateHeartbeat? Newest { get; private set; }

    /// <summary>Why the replica's state can't be called the newest; null where it can.</summary>
    public string? Objection => !IsWatched || Remaining > TimeSpan.Zero ? null
        : needsHeartbeats ? $"No signed heartbeat of the trainer came for {Silence.TotalSeconds:0} s: newer states may be kept back. {problem}".TrimEnd()
        : $"The source has not answered for {Silence.TotalSeconds:0} s.";

    /// <summary>Begins anew to wait for a sign.</summary>
    public void Start() => heard = timeProvider.GetTimestamp();

    /// <summary>The source has answered.</summary>
    public void Hear(UpdateBatch batch)
    {
        if (!IsWatched) return;
        if (!needsHeartbeats)
        {
            heard = timeProvider.GetTimestamp();
            return;
        }

        problem = Read(batch.Heartbeat);
        if (problem is null) heard = timeProvider.GetTimestamp();
    }

    /// <summary>Why a state of another run than the one followed must not be taken over; null where it may, since the newest heartbeat is of that run.</summary>
    public string? ObjectionTo(Guid runId) =>
        !IsWatched || !needsHeartbeats || Newest?.RunId == runId ? null
            : $"The source offers a state of the training run {runId}; no heartbeat says that it is the newest. {problem}".TrimEnd();

    /// <returns>Why a heartbeat is no sign; null where it is one.</returns>
    private string? Read(ReadOnlyMemory<byte> message)
    {
        if (message.IsEmpty) return "The source's answers have none.";
        try
        {
            var heartbeat = codec.ReadHeartbeat(message.Span);
            var now = timeProvider.GetUtcNow();
            if (heartbeat.ExpiresAt <= now) return $"The last one was of {heartbeat.IssuedAt:u} and expired at {heartbeat.ExpiresAt:u}; it is {now:u}.";
            if (heartbeat.IssuedAt < Newest?.IssuedAt) return $"The last one was of {heartbeat.IssuedAt:u}, and older than one before.";
            Newest = heartbeat;
            return null;
        }
        catch (Exception e) when (e is WireFormatException or UpdateSignatureException)
        {
            return e.Message;
        }
    }
}
