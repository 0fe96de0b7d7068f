namespace ContinuousDL.Replication.Replicas;

/// <summary>Where a replica that follows a trainer is, and what it does.</summary>
/// <param name="State">The activity of the follower.</param>
/// <param name="Reason">Why, where it is not current; null where there is nothing to say.</param>
/// <param name="RunId">The training run that it follows; <see cref="Guid.Empty"/> until it is known.</param>
/// <param name="Sequence">The sequence of its state.</param>
/// <param name="NewestSequence">The sequence of the newest state that its source told of.</param>
public sealed record ReplicaStatus(ReplicaState State, string? Reason, Guid RunId, long Sequence, long NewestSequence)
{
    /// <summary>By how many updates it is behind, as far as it knows.</summary>
    public long Lag => Math.Max(0, NewestSequence - Sequence);
}
