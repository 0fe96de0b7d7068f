using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Transport;

/// <summary>Something else was published under a sequence than what is to be published.</summary>
public sealed class UpdateConflictException : DeploymentException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="message">The message, which says what is wrong.</param>
    /// <param name="sequence">The sequence in question.</param>
    public UpdateConflictException(string message, long sequence)
        : base(message) => Sequence = sequence;

    /// <summary>The sequence in question.</summary>
    public long Sequence { get; }
}
