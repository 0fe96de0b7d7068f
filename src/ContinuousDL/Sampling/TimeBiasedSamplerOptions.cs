using System.ComponentModel.DataAnnotations;

namespace ContinuousDL.Sampling;

/// <summary>Options of a <see cref="TimeBiasedSampler"/>.</summary>
public sealed class TimeBiasedSamplerOptions : SamplerOptions
{
    /// <summary>
    /// How the weight grows with recency. Linear never forgets: half of the draws come from the newest 29 % of all samples.
    /// </summary>
    /// <value>The default is <see cref="RecencyWeighting.Linear"/>.</value>
    [EnumDataType(typeof(RecencyWeighting))]
    public RecencyWeighting Weighting { get; set; } = RecencyWeighting.Linear;

    /// <summary>
    /// The half-life in samples, of <see cref="RecencyWeighting.Exponential"/>: half of the draws come from that many of the
    /// newest samples of a long history. A shorter one follows a change of the data sooner, and forgets sooner.
    /// </summary>
    /// <value>The default is 10,000. From 0.001 to 1e15.</value>
    [Range(0.001, 1e15)]
    public double HalfLife { get; set; } = 10_000;
}
