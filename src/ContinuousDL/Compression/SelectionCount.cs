using ContinuousDL.Randomness;

namespace ContinuousDL.Compression;

/// <summary>How many of n coordinates are selected: a share of them or a fixed number.</summary>
internal sealed class SelectionCount
{
    private readonly double density;
    private readonly decimal exactDensity;
    private readonly int count;
    private readonly SmallCountRounding rounding;

    /// <summary>A share of the coordinates.</summary>
    /// <param name="density">The share, in (0, 1].</param>
    /// <param name="rounding">What to do where that is less than one coordinate.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public SelectionCount(double density, SmallCountRounding rounding)
    {
        if (!(density is > 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(density), density, "The density must be above 0 and at most 1.");
        CompressorArguments.CheckDefined(rounding, nameof(rounding));
        this.density = density;
        this.rounding = rounding;

        // The conversion rounds to 15 digits, which gives back the decimal number that was written: 0.29 of 100 is then 29, not 28.
        exactDensity = (decimal)density;
    }

    /// <summary>A fixed number of coordinates, or all where there are fewer.</summary>
    /// <param name="count">The number, k; at least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="count"/> is below 1.</exception>
    public SelectionCount(int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        this.count = count;
    }

    /// <summary>Whether the number is a matter of chance for some n.</summary>
    public bool IsRandom => count == 0 && rounding == SmallCountRounding.Probabilistic;

    /// <summary>The number for n coordinates.</summary>
    /// <param name="n">The number of coordinates to select from.</param>
    /// <param name="random">Decides where it is a matter of chance; otherwise it isn't drawn from.</param>
    /// <returns>k, and what it is on average: the two differ only where it is a matter of chance.</returns>
    public (int Count, double Average) For(int n, RandomSource random)
    {
        if (n == 0) return (0, 0);
        if (count > 0) return (Math.Min(count, n), Math.Min(count, n));
        var floor = (int)decimal.Floor(exactDensity * n);
        if (floor > 0) return (floor, floor);
        if (rounding == SmallCountRounding.AtLeastOne) return (1, 1);
        return (random.NextDouble() < density * n ? 1 : 0, density * n);
    }
}
