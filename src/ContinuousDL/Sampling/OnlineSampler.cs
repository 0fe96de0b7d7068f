namespace ContinuousDL.Sampling;

/// <summary>Takes new samples only, in the order of their arrival: online learning, the extreme without history.</summary>
/// <remarks>
/// A batch holds as many new samples as fit, those that do not fit come in the next one, and without new samples it is empty.
/// As nothing is drawn, <see cref="SamplerOptions.WithReplacement"/> has no effect.
/// </remarks>
public sealed class OnlineSampler : Sampler
{
    /// <summary>Makes a sampler.</summary>
    /// <param name="options">The options; null for the defaults. Read once: later changes have no effect.</param>
    /// <exception cref="ArgumentException"><see cref="SamplerOptions.AlwaysIncludeNew"/> is false.</exception>
    public OnlineSampler(SamplerOptions? options = null)
        : base(options ?? new())
    {
        if (!AlwaysIncludeNew)
        {
            throw new ArgumentException(
                "SamplerOptions.AlwaysIncludeNew is false: an online sampler takes new samples only, so it has to be true.", nameof(options));
        }
    }

    private protected override int Draw(SampleRange range, int included, Span<long> places) => 0;
}
