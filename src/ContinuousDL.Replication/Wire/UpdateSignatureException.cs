using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>A message is not signed although the codec has a key, or its signature is not by that key.</summary>
public sealed class UpdateSignatureException : DeploymentException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="message">What is wrong.</param>
    public UpdateSignatureException(string message)
        : base(message)
    {
    }
}
