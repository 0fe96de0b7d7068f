using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Transport;

/// <summary>An update as it goes over the wire.</summary>
/// <param name="Bytes">The message, as the codec made it.</param>
/// <param name="PublishedAt">When it was published; of a merged one, when the first of those merged was.</param>
public readonly record struct UpdateMessage(ReadOnlyMemory<byte> Bytes, DateTimeOffset PublishedAt);

/// <summary>The data that bring a replica forward: a snapshot, if it needs one, and then updates.</summary>
/// <remarks>A batch may be empty, may hold what the replica has already, and need not lead to the newest state: the replica asks again.</remarks>
public sealed class UpdateBatch
{
    /// <summary>After how long the library's sources answer that there is nothing new, so that a replica knows that they are still there.</summary>
    public static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(1);

    private ReadOnlyMemory<byte> heartbeat;

    /// <summary>A batch without anything: there is nothing new.</summary>
    public static UpdateBatch Empty { get; } = new();

    /// <summary>Whether there is nothing in it.</summary>
    public bool IsEmpty => Snapshot is null && Messages.Count == 0;

    /// <summary>The state to start from; null where the updates start from the replica's own.</summary>
    public ModelSnapshot? Snapshot { get; init; }

    /// <summary>The updates after it, each in its message.</summary>
    public IReadOnlyList<UpdateMessage> Messages { get; init; } = [];

    /// <summary>The sequence of the newest state that the source knows of, which may be later than where the batch leads.</summary>
    public long NewestSequence { get; init; }

    /// <summary>A signed heartbeat, see <see cref="HeartbeatSigner"/>; empty without one. It says nothing about whether the batch is empty.</summary>
    public ReadOnlyMemory<byte> Heartbeat
    {
        get => heartbeat;
        init => heartbeat = value;
    }

    /// <summary>The same batch with a heartbeat.</summary>
    public UpdateBatch WithHeartbeat(ReadOnlyMemory<byte> message)
    {
        var copy = (UpdateBatch)MemberwiseClone();
        copy.heartbeat = message;
        return copy;
    }
}
