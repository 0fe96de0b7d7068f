namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>Bars that are measured together, since they share variants.</summary>
/// <param name="Bars">The bars.</param>
/// <param name="Measure">Measures them; one spread for each bar, in their order.</param>
internal sealed record RatioGroup(IReadOnlyList<Bar> Bars, Func<IReadOnlyList<Measurement>> Measure);

/// <summary>What was measured for a bar.</summary>
/// <param name="Spread">The ratio.</param>
/// <param name="Detail">The figures behind it, for the table.</param>
internal readonly record struct Measurement(Spread Spread, string Detail)
{
    /// <summary>Of two variants.</summary>
    /// <param name="times">Their times.</param>
    /// <param name="variant">The index of the one.</param>
    /// <param name="baseline">The index of the one that it is measured against.</param>
    /// <param name="factor">What the ratio is multiplied by, where the two don't do the same amount. Default: 1.</param>
    public static Measurement Of(PairedTimes times, int variant, int baseline, double factor = 1) => new(
        times.Ratio(variant, baseline, factor),
        $"{Format(times.Median(variant))} / {Format(times.Median(baseline))}, {times.Rounds} rounds");

    private static string Format(TimeSpan time) => time.TotalMilliseconds >= 1
        ? FormattableString.Invariant($"{time.TotalMilliseconds:0.0} ms")
        : FormattableString.Invariant($"{time.TotalMicroseconds:0.0} µs");
}
