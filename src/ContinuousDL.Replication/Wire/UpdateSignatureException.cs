using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>A message is not signed although the codec has a key, or its signature is not by that key.</summary>
public sealed class UpdateSignatureException : DeploymentException
{
    internal UpdateSignatureException(string message)
        : base(message)
    {
    }
}
