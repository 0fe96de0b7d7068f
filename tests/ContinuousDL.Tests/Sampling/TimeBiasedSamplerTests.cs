using ContinuousDL.Sampling;

namespace ContinuousDL.Tests.Sampling;

/// <summary>Frequencies of the time-biased sampler, in every way that it draws.</summary>
public class TimeBiasedSamplerTests
{
    private const int Bins = 20;

    [TestCase(1_000)]
    [TestCase(10_000_000)]
    public void Linear_draws_follow_the_weights(long count)
    {
        var sampler = new TimeBiasedSampler(new() { WithReplacement = true, Seed = 31 });

        var counts = CountBins(sampler, count, batches: 1_000);

        // The weights 1 to m add up to m (m + 1) / 2.
        counts.ShouldFit(BinProbabilities(count, m => (double)m * (m + 1) / 2));
        counts.ShouldNotFit(ChiSquare.Uniform(Bins));
    }

    /// <summary>Half-lives longer and shorter than the history, which are drawn differently.</summary>
    [TestCase(1_000, 5_000.0)]
    [TestCase(1_000, 1_000.0)]
    [TestCase(1_000, 999.0)]
    [TestCase(1_000, 250.5)]
    [TestCase(10_000_000, 12_345_678.9)]
    [TestCase(10_000_000, 4_000_000.0)]
    public void Exponential_draws_follow_the_weights(long count, double halfLife)
    {
        var sampler = Exponential(halfLife, withReplacement: true, seed: 32);

        var counts = CountBins(sampler, count, batches: 1_000);

        // The weights of the m oldest are a geometric series.
        counts.ShouldFit(BinProbabilities(count, m => Math.Pow(2, m / halfLife) - 1));
        counts.ShouldNotFit(ChiSquare.Uniform(Bins));
    }

    [TestCase(0.3)]
    [TestCase(0.5)]
    [TestCase(3.0)]
    public void Exponential_draws_with_a_short_half_life_follow_the_weights_of_single_samples(double halfLife)
    {
        var sampler = Exponential(halfLife, withReplacement: true, seed: 33);
        var counts = new long[100];
        var batch = new long[100];

        for (var i = 0; i < 2_000; i++)
        {
            sampler.Sample(new SampleRange(0, 1_000_000, 1_000_000), batch);
            foreach (var index in batch) counts[999_999 - index]++;
        }

        var weights = Enumerable.Range(0, counts.Length).Select(age => Math.Pow(2, -age / halfLife)).ToArray();
        counts.ShouldFit([.. weights.Select(weight => weight / weights.Sum())]);
    }

    /// <summary>Batches of up to half of the history are drawn by rejection, larger ones by the earliest time.</summary>
    [TestCase(7, 1)]
    [TestCase(7, 3)]
    [TestCase(7, 4)]
    [TestCase(6, 5)]
    public void Linear_subsets_are_as_likely_as_drawing_one_after_the_other_makes_them(int count, int batchSize)
    {
        var sampler = new TimeBiasedSampler(new() { Seed = 34 });
        var weights = Enumerable.Range(1, count).Select(i => (double)i).ToArray();

        var counts = Subsets.Count(count, batchSize, 50_000, batch => sampler.Sample(new SampleRange(0, count, count), batch));

        counts.ShouldFit(Subsets.Probabilities(weights, batchSize));
        counts.ShouldNotFit(ChiSquare.Uniform(counts.Length));
    }

    /// <summary>Batches longer than six half-lives, or than half of the history, are drawn by the earliest time.</summary>
    [TestCase(7, 3, 20.0)]
    [TestCase(7, 3, 3.5)]
    [TestCase(7, 5, 3.5)]
    [TestCase(6, 2, 1.0)]
    [TestCase(6, 3, 0.499)]
    public void Exponential_subsets_are_as_likely_as_drawing_one_after_the_other_makes_them(int count, int batchSize, double halfLife)
    {
        var sampler = Exponential(halfLife, seed: 35);
        var weights = Enumerable.Range(1, count).Select(i => Math.Pow(2, i / halfLife)).ToArray();

        var counts = Subsets.Count(count, batchSize, 100_000, batch => sampler.Sample(new SampleRange(0, count, count), batch));

        counts.ShouldFit(Subsets.Probabilities(weights, batchSize));
        counts.ShouldNotFit(ChiSquare.Uniform(counts.Length));
    }

    /// <summary>The way of drawing changes with the half-life; the probabilities of being in the batch must not jump there.</summary>
    [Test]
    public void Batch_of_a_long_history_is_the_same_in_distribution_on_both_sides_of_the_change_of_method()
    {
        var below = CountAges(128 / 6.0 * 0.9999, seed: 36);
        var above = CountAges(128 / 6.0 * 1.0001, seed: 37);

        var total = (double)below.Sum() + above.Sum();
        var expected = below.Zip(above, (b, a) => (b + a) / total).ToArray();
        below.ShouldFit(expected);
        above.ShouldFit(expected);

        static long[] CountAges(double halfLife, ulong seed)
        {
            var sampler = Exponential(halfLife, seed: seed);
            var batch = new long[128];
            var counts = new long[30];
            for (var i = 0; i < 1_000; i++)
            {
                sampler.Sample(new SampleRange(0, 100_000, 100_000), batch);
                foreach (var index in batch) counts[Math.Min((99_999 - index) / 8, 29)]++;
            }

            return counts;
        }
    }

    [TestCase(1e-3)]
    [TestCase(1.0)]
    [TestCase(1e15)]
    public void Batch_of_any_half_life_is_filled_with_different_samples(double halfLife)
    {
        var sampler = Exponential(halfLife);

        var batch = sampler.Sample(new SampleRange(0, 10_000_000, 10_000_000), 1_000);

        batch.Should().HaveCount(1_000).And.OnlyHaveUniqueItems().And.OnlyContain(index => index >= 0 && index < 10_000_000);
        if (halfLife < 0.01) batch.Should().OnlyContain(index => index >= 9_999_000);
    }

    [Test]
    public void Linear_draws_from_the_longest_history_stay_in_it()
    {
        var sampler = new TimeBiasedSampler();
        var range = new SampleRange(0, long.MaxValue, long.MaxValue);

        var batch = sampler.Sample(range, 1_000);

        batch.Should().OnlyHaveUniqueItems().And.OnlyContain(index => index >= 0);
    }

    [TestCase(0.0)]
    [TestCase(-1.0)]
    [TestCase(double.NaN)]
    [TestCase(double.PositiveInfinity)]
    public void Half_life_out_of_range_fails_and_is_named(double halfLife)
    {
        var make = () => new TimeBiasedSampler(new() { HalfLife = halfLife });

        make.Should().Throw<ArgumentException>().WithMessage("*TimeBiasedSamplerOptions.HalfLife is *").WithParameterName("options");
    }

    [Test]
    public void Unknown_weighting_fails_and_is_named()
    {
        var make = () => new TimeBiasedSampler(new() { Weighting = (RecencyWeighting)7 });

        make.Should().Throw<ArgumentException>().WithMessage("*TimeBiasedSamplerOptions.Weighting is 7*");
    }

    private static TimeBiasedSampler Exponential(double halfLife, bool withReplacement = false, ulong seed = 0) =>
        new(new() { Weighting = RecencyWeighting.Exponential, HalfLife = halfLife, WithReplacement = withReplacement, Seed = seed });

    private static long[] CountBins(TimeBiasedSampler sampler, long count, int batches)
    {
        var batch = new long[200];
        var counts = new long[Bins];
        for (var i = 0; i < batches; i++)
        {
            sampler.Sample(new SampleRange(0, count, count), batch);
            foreach (var index in batch) counts[index * Bins / count]++;
        }

        return counts;
    }

    /// <param name="count">The number of samples, a multiple of the number of bins.</param>
    /// <param name="weightOfOldest">The sum of the weights of the m oldest samples, in any unit.</param>
    private static double[] BinProbabilities(long count, Func<long, double> weightOfOldest)
    {
        var total = weightOfOldest(count);
        var bounds = Enumerable.Range(0, Bins + 1).Select(bin => weightOfOldest(count * bin / Bins) / total).ToArray();
        return [.. bounds.Skip(1).Zip(bounds, (upper, lower) => upper - lower)];
    }
}
