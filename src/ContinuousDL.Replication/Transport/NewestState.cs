namespace ContinuousDL.Replication.Transport;

/// <summary>The newest state that a log leads to.</summary>
/// <param name="RunId">The training run.</param>
/// <param name="Sequence">The sequence of the state in that run.</param>
/// <param name="Digest">The digest of the state.</param>
public readonly record struct NewestState(Guid RunId, long Sequence, ulong Digest);
