namespace ContinuousDL.Sampling;

/// <summary>How the weight of a sample grows with its recency.</summary>
public enum RecencyWeighting
{
    /// <summary>The i-th oldest of the samples that can be drawn has the weight i: 1, 2, 3, ...</summary>
    Linear,

    /// <summary>A sample that is older by one half-life has half the weight.</summary>
    Exponential,
}
