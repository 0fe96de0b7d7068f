namespace ContinuousDL.Replication.Updates;

/// <summary>An update or snapshot cannot be applied. The model that it was meant for has not changed.</summary>
public abstract class DeploymentException(string message) : InvalidOperationException(message);

/// <summary>An update or snapshot is for a model of another architecture.</summary>
public sealed class ModelMismatchException(string message) : DeploymentException(message);

/// <summary>An update starts from a later state than the replica's: updates between them are missing.</summary>
public sealed class UpdateGapException : DeploymentException
{
    /// <summary>Says which updates are missing.</summary>
    /// <param name="replicaSequence">The sequence of the replica's state.</param>
    /// <param name="updateBaseSequence">The sequence that the update starts from.</param>
    /// <param name="updateSequence">The sequence that it leads to.</param>
    public UpdateGapException(long replicaSequence, long updateBaseSequence, long updateSequence)
        : base($"The update goes from sequence {updateBaseSequence} to {updateSequence}, the replica is at {replicaSequence}: the updates in between are missing.")
    {
        ReplicaSequence = replicaSequence;
        UpdateBaseSequence = updateBaseSequence;
    }

    /// <summary>The sequence of the replica's state.</summary>
    public long ReplicaSequence { get; }

    /// <summary>The sequence that the update starts from.</summary>
    public long UpdateBaseSequence { get; }
}

/// <summary>An update is of another training run than the one that the replica follows. A snapshot of that run's state lets the replica follow it.</summary>
public sealed class RunMismatchException : DeploymentException
{
    /// <summary>Says that an update is of another run.</summary>
    /// <param name="replicaRunId">The run that the replica follows.</param>
    /// <param name="updateRunId">The run that the update is of; null where its message carries only a tag of it.</param>
    /// <param name="updateSequence">The sequence that it leads to.</param>
    public RunMismatchException(Guid replicaRunId, Guid? updateRunId, long updateSequence)
        : base($"The update {updateSequence} is of {(updateRunId is null ? "another training run" : $"the training run {updateRunId}")}, the replica follows {replicaRunId}. Start from a snapshot of the other run to follow it.")
    {
        ReplicaRunId = replicaRunId;
        UpdateRunId = updateRunId ?? Guid.Empty;
    }

    /// <summary>Says that a trainer's updates are not of the run that the replicas follow.</summary>
    /// <param name="trainerRunId">The trainer's run.</param>
    /// <param name="replicas">The replicas' state.</param>
    public RunMismatchException(Guid trainerRunId, ModelSnapshot replicas)
        : base($"The replicas follow the training run {replicas.RunId}, the trainer has made updates of {trainerRunId}. Give the replicas a snapshot of the trainer's to make them follow it.")
    {
        ReplicaRunId = replicas.RunId;
        UpdateRunId = trainerRunId;
    }

    /// <summary>The run that the replica follows.</summary>
    public Guid ReplicaRunId { get; }

    /// <summary>The run that the update is of; <see cref="Guid.Empty"/> where its message carries only a tag of it.</summary>
    public Guid UpdateRunId { get; }
}

/// <summary>
/// The digest of the state that an update would lead to is not the one that it carries: the replica has drifted, or the update
/// is damaged. A snapshot of the trainer's state brings the replica back.
/// </summary>
public sealed class ReplicaDivergedException(string message) : DeploymentException(message);

/// <summary>A replica that was made without a state has not got one yet: there is nothing to answer from, or to apply an update to.</summary>
/// <remarks>A server answers "503 Service Unavailable" then. The replica's <c>WaitUntilReadyAsync</c> waits for the first state.</remarks>
public sealed class ReplicaNotReadyException()
    : InvalidOperationException("The replica has no state yet: it can answer when it has taken over a first snapshot.");
