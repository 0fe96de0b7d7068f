using ContinuousDL.Deployment;

namespace ContinuousDL.Transport;

/// <summary>An update as it goes over the wire.</summary>
/// <param name="Bytes">The message, as the codec made it.</param>
/// <param name="PublishedAt">When it was published; of a merged one, when the first of those merged was.</param>
public readonly record struct UpdateMessage(ReadOnlyMemory<byte> Bytes, DateTimeOffset PublishedAt);

/// <summary>What brings a replica forward: a snapshot, if it needs one, and then updates.</summary>
/// <remarks>A batch may be empty, may hold what the replica has already, and need not lead to the newest state: the replica asks again.</remarks>
public sealed class UpdateBatch
{
    /// <summary>A batch without anything, of a source that knows of no state yet.</summary>
    public static UpdateBatch Empty { get; } = new();

    /// <summary>The state to start from; null where the updates start from the replica's own.</summary>
    public ModelSnapshot? Snapshot { get; init; }

    /// <summary>The updates after it, each in its message.</summary>
    public IReadOnlyList<UpdateMessage> Messages { get; init; } = [];

    /// <summary>The sequence of the newest state that the source knows of, which may be later than where the batch leads.</summary>
    public long NewestSequence { get; init; }
}
