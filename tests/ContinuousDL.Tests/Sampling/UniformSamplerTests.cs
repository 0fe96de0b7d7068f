using ContinuousDL.Sampling;

namespace ContinuousDL.Tests.Sampling;

/// <summary>Frequencies of the uniform sampler.</summary>
public class UniformSamplerTests
{
    [TestCase(1)]
    [TestCase(3)]
    [TestCase(5)]
    public void Every_subset_of_the_history_is_equally_likely(int batchSize)
    {
        var sampler = new UniformSampler(new() { Seed = 11 });

        var counts = Subsets.Count(7, batchSize, 30_000, batch => sampler.Sample(new SampleRange(0, 7, 7), batch));

        counts.ShouldFit(ChiSquare.Uniform(counts.Length));
    }

    [Test]
    public void Draws_from_a_long_history_are_spread_evenly([Values] bool withReplacement)
    {
        const long first = 3_000_000_000, count = 10_000_000;
        var sampler = new UniformSampler(new() { WithReplacement = withReplacement, Seed = 12 });
        var batch = new long[128];
        var counts = new long[50];

        for (var i = 0; i < 2_000; i++)
        {
            sampler.Sample(new SampleRange(first, first + count, first + count), batch);
            foreach (var index in batch) counts[(index - first) * 50 / count]++;
        }

        counts.ShouldFit(ChiSquare.Uniform(50));
    }

    [Test]
    public void WithReplacement_a_sample_comes_up_again_as_often_as_it_should()
    {
        var sampler = new UniformSampler(new() { WithReplacement = true, Seed = 13 });
        var batch = new long[2];
        var counts = new long[9];

        for (var i = 0; i < 30_000; i++)
        {
            sampler.Sample(new SampleRange(0, 3, 3), batch);
            counts[(batch[0] * 3) + batch[1]]++;
        }

        counts.ShouldFit(ChiSquare.Uniform(9));
    }

    [Test]
    public void Without_AlwaysIncludeNew_new_samples_are_drawn_as_often_as_historical_ones()
    {
        var sampler = new UniformSampler(new() { AlwaysIncludeNew = false, Seed = 14 });

        var counts = Subsets.Count(7, 3, 30_000, batch => sampler.Sample(new SampleRange(0, 4, 7), batch));

        counts.ShouldFit(ChiSquare.Uniform(counts.Length));
    }
}
