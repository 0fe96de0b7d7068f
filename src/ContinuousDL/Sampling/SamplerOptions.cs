namespace ContinuousDL.Sampling;

/// <summary>Options that every sampler has.</summary>
public class SamplerOptions
{
    /// <summary>
    /// Whether new samples go into the batch first, in the order of their arrival, as many as fit, and the rest is drawn from
    /// the historical samples. Otherwise the whole batch is drawn from all samples, new and historical, and a new sample
    /// that was not drawn is a historical one from then on.
    /// </summary>
    /// <value>The default is true.</value>
    public bool AlwaysIncludeNew { get; set; } = true;

    /// <summary>
    /// Whether a drawn sample can be drawn again for the same batch. With replacement a batch is full whenever there is a
    /// sample to draw; without it, it is partial when there are fewer samples than it holds.
    /// </summary>
    /// <value>The default is false.</value>
    public bool WithReplacement { get; set; }

    /// <summary>
    /// Whether the batch is put in a random order. Otherwise new samples that are included come first and drawn samples have
    /// no particular order, which matters only to a model that looks at the order within a batch.
    /// </summary>
    /// <value>The default is false.</value>
    public bool Shuffle { get; set; }

    /// <summary>Where the random numbers start from. The same seed, options and ranges give the same batches.</summary>
    /// <value>The default is 0.</value>
    public ulong Seed { get; set; }
}
