namespace ContinuousDL.Sampling;

/// <summary>Draws every sample with the same probability, new samples first by default.</summary>
/// <remarks>
/// Costs one random number for each sample drawn, whatever the length of the history. See <see cref="Sampler"/> for what all
/// samplers share.
/// </remarks>
public sealed class UniformSampler : Sampler
{
    private readonly UniformDrawing drawing = new();

    /// <summary>Makes a sampler.</summary>
    /// <param name="options">The options; null for the defaults. Read once: later changes have no effect.</param>
    public UniformSampler(SamplerOptions? options = null)
        : base(options ?? new())
    {
    }

    private protected override int Draw(SampleRange range, int included, Span<long> places) =>
        drawing.Draw(Random, range.First, DrawableEnd(range), WithReplacement, places);
}
