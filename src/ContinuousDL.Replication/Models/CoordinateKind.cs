namespace ContinuousDL.Replication.Models;

/// <summary>The kind of a model's tensor.</summary>
public enum CoordinateKind
{
    /// <summary>A parameter: <c>named_parameters()</c>, frozen ones included.</summary>
    Parameter,

    /// <summary>A persistent buffer, such as the running statistics of batch normalisation.</summary>
    Buffer,
}
