using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Wire;

/// <summary>
/// A statement that the trainer's side signs again and again, also while nothing changes: which state is the newest, and until when that may
/// be relied on. A replica that is shown an old one, or none, knows that something is kept from it.
/// </summary>
/// <param name="RunId">The training run.</param>
/// <param name="Sequence">The sequence of the newest state.</param>
/// <param name="StateDigest">The digest of that state.</param>
/// <param name="IssuedAt">When it was so, to the millisecond.</param>
/// <param name="ExpiresAt">Until when it may be relied on, to the millisecond.</param>
public sealed record UpdateHeartbeat(Guid RunId, long Sequence, ulong StateDigest, DateTimeOffset IssuedAt, DateTimeOffset ExpiresAt);
