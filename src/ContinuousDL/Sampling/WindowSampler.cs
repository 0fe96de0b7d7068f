namespace ContinuousDL.Sampling;

/// <summary>
/// Draws from the newest W samples, every one of them with the same probability; older ones are never drawn.
/// </summary>
/// <remarks>
/// The window counts from the newest sample back, so that new samples are part of it: with
/// <see cref="SamplerOptions.AlwaysIncludeNew"/> the historical samples among the newest W are drawn, none when there are W
/// new samples or more. New samples that are older than the window are included all the same. See <see cref="Sampler"/> for
/// what all samplers share.
/// </remarks>
public sealed class WindowSampler : Sampler
{
    private readonly UniformDrawing drawing = new();
    private readonly long windowSize;

    /// <summary>Makes a sampler.</summary>
    /// <param name="options">The options; null for the defaults. Read once: later changes have no effect.</param>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    public WindowSampler(WindowSamplerOptions? options = null)
        : base(options ??= new())
    {
        windowSize = options.WindowSize;
    }

    private protected override string? KindOfOptions => FormattableString.Invariant($"window of {windowSize}");

    private protected override int Draw(SampleRange range, int included, Span<long> places) =>
        drawing.Draw(Random, Math.Max(range.First, range.End - windowSize), DrawableEnd(range), WithReplacement, places);
}
