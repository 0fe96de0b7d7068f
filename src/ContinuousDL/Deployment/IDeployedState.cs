using ContinuousDL.Replication.Models;

namespace ContinuousDL.Deployment;

/// <summary>What can be said of the state that a trainer's replicas are to have.</summary>
public interface IDeployedState
{
    /// <summary>The model's tensors and their coordinates.</summary>
    ModelLayout Layout { get; }

    /// <summary>The training run that the sequence counts the updates of.</summary>
    Guid RunId { get; }

    /// <summary>The number of updates so far.</summary>
    long Sequence { get; }

    /// <summary>The digest of the state.</summary>
    ulong Digest { get; }
}
