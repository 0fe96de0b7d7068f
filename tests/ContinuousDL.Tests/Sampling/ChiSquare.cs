namespace ContinuousDL.Tests.Sampling;

/// <summary>Pearson's chi-square test: whether counts agree with the probabilities that they should have.</summary>
internal static class ChiSquare
{
    /// <summary>The share of right distributions that are taken for wrong; seeds are fixed, so that it is the share of seeds.</summary>
    private const double NormalQuantileAtOneInThousand = 3.0902;

    /// <summary>The test is valid where this many are expected; what is rarer is counted together.</summary>
    private const double FewestExpected = 10;

    /// <summary>Fails when the counts would be that far from the probabilities, or further, less than once in 1000 times.</summary>
    public static void ShouldFit(this IReadOnlyList<long> counts, IReadOnlyList<double> probabilities)
    {
        var (statistic, critical) = Test(counts, probabilities);
        statistic.Should().BeLessThan(critical, "the counts {0} should fit the probabilities {1}", counts, probabilities);
    }

    /// <summary>Fails when the counts agree with the probabilities: they are those of another distribution.</summary>
    public static void ShouldNotFit(this IReadOnlyList<long> counts, IReadOnlyList<double> probabilities)
    {
        var (statistic, critical) = Test(counts, probabilities);
        statistic.Should().BeGreaterThan(critical);
    }

    public static double[] Uniform(int count) => [.. Enumerable.Repeat(1.0 / count, count)];

    private static (double Statistic, double Critical) Test(IReadOnlyList<long> counts, IReadOnlyList<double> probabilities)
    {
        counts.Should().HaveSameCount(probabilities);
        probabilities.Sum().Should().BeApproximately(1, 1e-9);
        var total = counts.Sum();
        var cells = new List<(double Expected, double Counted)>();
        var (expected, counted) = (0.0, 0.0);
        foreach (var (probability, count) in probabilities.Zip(counts).OrderBy(cell => cell.First))
        {
            (expected, counted) = (expected + (total * probability), counted + count);
            if (expected < FewestExpected) continue;
            cells.Add((expected, counted));
            (expected, counted) = (0, 0);
        }

        cells.Count.Should().BeGreaterThan(1, "there has to be something to compare");
        return (cells.Sum(cell => Math.Pow(cell.Counted - cell.Expected, 2) / cell.Expected), Critical(cells.Count - 1));
    }

    /// <summary>The quantile by the approximation of Wilson and Hilferty (1931).</summary>
    private static double Critical(int degrees)
    {
        var variance = 2.0 / (9 * degrees);
        return degrees * Math.Pow(1 - variance + (NormalQuantileAtOneInThousand * Math.Sqrt(variance)), 3);
    }
}
