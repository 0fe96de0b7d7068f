namespace ContinuousDL.Replication.Replicas;

/// <summary>Why a replica did not apply a message; the values of the tag <c>reason</c>.</summary>
internal enum RefusalReason
{
    /// <summary>Its bytes are not what was sent.</summary>
    Damaged,

    /// <summary>It is not signed, or not by the right key.</summary>
    Signature,

    /// <summary>Messages before it are missing.</summary>
    Gap,

    /// <summary>It does not fit the replica's state, run or model.</summary>
    Diverged,

    /// <summary>It would take the replica back to an older state.</summary>
    Rollback,
}
