namespace ContinuousDL.Compression;

/// <summary>How many coordinates are sent where the density asks for less than one.</summary>
public enum SmallCountRounding
{
    /// <summary>One, always.</summary>
    AtLeastOne,

    /// <summary>One with the probability density · n, otherwise none: right on average.</summary>
    Probabilistic,
}
