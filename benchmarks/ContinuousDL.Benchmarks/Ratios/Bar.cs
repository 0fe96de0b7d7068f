namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>What a ratio has to be.</summary>
/// <param name="Name">What is measured, as "what / against what".</param>
/// <param name="Limit">The most that it may be; or the least, see <paramref name="AtLeast"/>.</param>
/// <param name="AtLeast">Whether <paramref name="Limit"/> is the least: the ratio says how many times faster something is.</param>
internal sealed record Bar(string Name, double Limit, bool AtLeast = false)
{
    /// <summary>Whether a ratio is what it has to be. One that is no number isn't.</summary>
    public bool IsHeldBy(double ratio) => AtLeast ? ratio >= Limit : ratio <= Limit;
}
