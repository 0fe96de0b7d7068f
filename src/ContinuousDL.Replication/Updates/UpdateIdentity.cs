using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>The state that an update is for and the one that it leads to: everything that it says beside coordinates and values.</summary>
/// <param name="RunId">The training run.</param>
/// <param name="BaseSequence">The sequence of the state before it.</param>
/// <param name="Sequence">The sequence of the state after it.</param>
/// <param name="Layout">The model's tensors.</param>
/// <param name="Digest">The digest of the state after it.</param>
public readonly record struct UpdateIdentity(Guid RunId, long BaseSequence, long Sequence, ModelLayout Layout, ulong Digest);
