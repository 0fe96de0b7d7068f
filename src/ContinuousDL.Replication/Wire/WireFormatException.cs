using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>The bytes are not a message of the format in docs/wire-format.md: damaged, cut off, of another version, or something else altogether.</summary>
public sealed class WireFormatException : DeploymentException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="message">What is wrong.</param>
    public WireFormatException(string message)
        : base(message)
    {
    }
}
