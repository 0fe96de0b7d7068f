using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Replication.Transport;

/// <summary>Makes signed heartbeats of what the newest state is, for replicas that want to know when something is kept from them.</summary>
/// <remarks>
/// To be used where the private key and the log are: in the trainer's process. It tells the head of the log and nothing that a
/// request says. Thread-safe.
/// </remarks>
/// <example>
/// <code>
/// var heartbeats = new HeartbeatSigner(codec, () => log.Head);
/// app.MapModelUpdates("/model/updates", log, new() { Heartbeat = heartbeats.Sign });
/// </code>
/// </example>
public sealed class HeartbeatSigner
{
    private static readonly TimeSpan DefaultValidity = TimeSpan.FromMinutes(1);

    private readonly UpdateCodec codec;
    private readonly Func<NewestState?> head;
    private readonly TimeSpan validity;
    private readonly TimeSpan reuse;
    private readonly TimeProvider timeProvider;
    private readonly Lock sync = new();
    private UpdateHeartbeat? newest;
    private byte[]? message;

    /// <summary>Makes a signer.</summary>
    /// <param name="codec">Signs, with the key that signs the updates.</param>
    /// <param name="head">The newest state, such as <see cref="UpdateLog.Head"/>; null as long as there is none.</param>
    /// <param name="validity">How long a heartbeat may be relied on. The clocks of trainer and replicas may differ by no more than this. Default: 1 minute.</param>
    /// <param name="timeProvider">The clock. Default: the system's.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="validity"/> is less than 1 second or more than 1 day.</exception>
    public HeartbeatSigner(UpdateCodec codec, Func<NewestState?> head, TimeSpan? validity = null, TimeProvider? timeProvider = null)
    {
        ArgumentNullException.ThrowIfNull(codec);
        ArgumentNullException.ThrowIfNull(head);
        this.validity = validity ?? DefaultValidity;
        ArgumentOutOfRangeException.ThrowIfLessThan(this.validity, TimeSpan.FromSeconds(1), nameof(validity));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(this.validity, TimeSpan.FromDays(1), nameof(validity));
        this.codec = codec;
        this.head = head;
        this.timeProvider = timeProvider ?? TimeProvider.System;

        // Many replicas ask for the same; for each a tenth of the time is as good as all of it.
        reuse = this.validity / 10;
    }

    /// <summary>Makes a heartbeat, or gives the last one again where that is still fresh and right.</summary>
    /// <returns>The message; null as long as there is no state.</returns>
    /// <exception cref="InvalidOperationException">The codec can't sign.</exception>
    public byte[]? Sign()
    {
        lock (sync)
        {
            if (head() is not { } state) return null;
            var now = timeProvider.GetUtcNow();
            var isFresh = newest is not null && now >= newest.IssuedAt && now - newest.IssuedAt < reuse
                && (newest.RunId, newest.Sequence, newest.StateDigest) == (state.RunId, state.Sequence, state.Digest);
            if (isFresh) return message;
            newest = new UpdateHeartbeat(state.RunId, state.Sequence, state.Digest, now, now + validity);
            return message = codec.Encode(newest);
        }
    }
}
