using System.ComponentModel.DataAnnotations;

namespace ContinuousDL.Sampling;

/// <summary>Options of an <see cref="InverseFrequencySampler"/>.</summary>
public sealed class InverseFrequencySamplerOptions : SamplerOptions
{
    /// <summary>
    /// How many times a sample counts as selected that is historical already when the sampler first meets it: those the
    /// model was trained on before. A higher value makes them come up less often than those that arrive later.
    /// </summary>
    /// <value>The default is 1. At least 1.</value>
    [Range(1, int.MaxValue)]
    public int InitialHistoricalCount { get; set; } = 1;

    /// <summary>
    /// How many times a sample counts as selected that is new when the sampler first meets it, before it is selected. A
    /// higher value makes new samples come up less often later.
    /// </summary>
    /// <value>The default is 1. At least 1.</value>
    [Range(1, int.MaxValue)]
    public int InitialNewCount { get; set; } = 1;
}
