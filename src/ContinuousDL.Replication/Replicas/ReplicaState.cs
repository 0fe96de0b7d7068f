namespace ContinuousDL.Replication.Replicas;

/// <summary>The activity of a replica that follows a trainer. In each of these states it answers, from the newest state that it has, if it has got one.</summary>
public enum ReplicaState
{
    /// <summary>The newest state that its source told of is later than its own: it applies updates, or waits for a prediction that still uses the copy to be written; or it has just started.</summary>
    CatchingUp,

    /// <summary>It has the newest state that its source told of.</summary>
    Current,

    /// <summary>Updates don't lead on from its state: it has asked for a snapshot.</summary>
    Resyncing,

    /// <summary>Nothing that it gets brings it forward, or it gets nothing: it tries again, after longer and longer waits.</summary>
    Failed,

    /// <summary>For longer than <see cref="ReplicaFollowerOptions.MaximumSilence"/> there was no sign that its state is the newest: the source is silent, or something keeps newer states back.</summary>
    Stale,
}
