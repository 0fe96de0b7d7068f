namespace ContinuousDL.Replication.Models;

/// <summary>What a tensor of a model is.</summary>
public enum CoordinateKind
{
    /// <summary>A parameter: <c>named_parameters()</c>, frozen ones included.</summary>
    Parameter,

    /// <summary>A persistent buffer, such as the running statistics of batch normalisation.</summary>
    Buffer,
}
