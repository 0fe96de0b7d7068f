using Microsoft.Extensions.Logging;

namespace ContinuousDL.Replication.Replicas;

/// <summary>The messages that a follower logs.</summary>
internal static partial class ReplicaMessages
{
    [LoggerMessage(6, LogLevel.Information, "Replica {Replica} is {State} at sequence {Sequence} of {NewestSequence}")]
    public static partial void ReplicaStateChanged(ILogger logger, string replica, ReplicaState state, long sequence, long newestSequence);

    [LoggerMessage(7, LogLevel.Warning, "Replica {Replica} at sequence {Sequence} asks for a snapshot: {Reason}")]
    public static partial void ReplicaResyncing(ILogger logger, string replica, long sequence, string? reason);

    [LoggerMessage(8, LogLevel.Error, "Replica {Replica} stays at sequence {Sequence} for now: {Reason}")]
    public static partial void ReplicaFailed(ILogger logger, Exception? exception, string replica, long sequence, string? reason);

    [LoggerMessage(40, LogLevel.Warning, "Replica {Replica} at sequence {Sequence} may be stale: {Reason}")]
    public static partial void ReplicaStale(ILogger logger, string replica, long sequence, string? reason);

    [LoggerMessage(41, LogLevel.Error, "The highest sequence of replica {Replica} could not be written to {Path}; it will be tried again")]
    public static partial void SequenceFileFailed(ILogger logger, Exception exception, string replica, string? path);
}
