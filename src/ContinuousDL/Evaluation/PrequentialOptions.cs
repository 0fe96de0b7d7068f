using System.ComponentModel.DataAnnotations;

namespace ContinuousDL.Evaluation;

/// <summary>How far back an evaluator looks.</summary>
public class PrequentialOptions
{
    /// <summary>The longest window there can be, in samples: 2^24. It takes 128 MiB for each estimate.</summary>
    public const int MaxWindowSize = 1 << 24;

    /// <summary>
    /// The number of newest samples, W, that <see cref="PrequentialEstimate.Window"/> is the mean of. A longer window is
    /// steadier and slower to show a change; it takes 8 bytes a sample for each estimate.
    /// </summary>
    /// <value>Default: 1,000. From 1 to <see cref="MaxWindowSize"/>.</value>
    [Range(1, MaxWindowSize)]
    public int WindowSize { get; set; } = 1000;

    /// <summary>
    /// The factor α by which the weight of a sample shrinks with every sample after it, in
    /// <see cref="PrequentialEstimate.Fading"/>. The estimate rests on about 1/(1−α) samples, and a sample has lost half of its
    /// weight after ln 2/(1−α) more. A smaller factor forgets faster; 1 forgets nothing.
    /// </summary>
    /// <value>Default: 0.999 (half of the weight after 693 samples). Above 0, at most 1.</value>
    [Range(0.0, 1.0, MinimumIsExclusive = true)]
    public double FadingFactor { get; set; } = 0.999;

    /// <exception cref="ArgumentOutOfRangeException">A value is not what it may be.</exception>
    internal void Validate()
    {
        if (WindowSize is < 1 or > MaxWindowSize)
        {
            throw new ArgumentOutOfRangeException(nameof(WindowSize), WindowSize, $"A window has 1 to {MaxWindowSize} samples.");
        }

        if (!(FadingFactor is > 0 and <= 1))
        {
            throw new ArgumentOutOfRangeException(nameof(FadingFactor), FadingFactor, "A fading factor is above 0 and at most 1.");
        }
    }
}
