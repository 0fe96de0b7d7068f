using ContinuousDL.Sampling;

namespace ContinuousDL.Tests.Sampling;

/// <summary>Frequencies of the inverse-frequency sampler, against counting in the plain way.</summary>
public class InverseFrequencySamplerTests
{
    private const int InitialHistoricalCount = 3, InitialNewCount = 2;

    [Test]
    public void Every_draw_of_a_stream_follows_the_counts_so_far([Values] bool withReplacement, [Values] bool alwaysIncludeNew)
    {
        var counts = PlaceDraws(withReplacement, alwaysIncludeNew, count => 1.0 / count);

        counts.ShouldFit(ChiSquare.Uniform(counts.Length));
    }

    [Test]
    public void Draws_follow_no_other_weights()
    {
        PlaceDraws(false, true, _ => 1.0).ShouldNotFit(ChiSquare.Uniform(20));
        PlaceDraws(false, true, count => 1.0 / (count + 1)).ShouldNotFit(ChiSquare.Uniform(20));
    }

    [Test]
    public void Seldom_selected_samples_catch_up()
    {
        var sampler = new InverseFrequencySampler(new() { Seed = 42 });
        var selected = new long[100];
        for (var i = 0; i < 200; i++) Run(50);
        var before = selected[..50].Min();

        for (var i = 0; i < 200; i++) Run(100);

        var (old, added) = (selected[..50].Average() - before, selected[50..].Average());
        added.Should().BeGreaterThan(1.2 * old);

        void Run(int count)
        {
            foreach (var index in sampler.Sample(new SampleRange(0, count, count), 10)) selected[index]++;
        }
    }

    [TestCase(1, 1_000)]
    [TestCase(1_000, 1)]
    public void Initial_counts_set_the_weights_of_historical_and_new_samples(int historicalCount, int newCount)
    {
        var sampler = new InverseFrequencySampler(
            new() { InitialHistoricalCount = historicalCount, InitialNewCount = newCount, AlwaysIncludeNew = false, Seed = 43 });

        var batch = sampler.Sample(new SampleRange(0, 1_000, 2_000), 500);

        // One in about 750 comes from the side with the high count, so that a dozen is out of the question.
        batch.Count(index => index < 1_000 == historicalCount > newCount).Should().BeLessThan(12);
    }

    [Test]
    public void Included_new_samples_count_as_selected()
    {
        var sampler = new InverseFrequencySampler(new() { InitialHistoricalCount = 1_000, InitialNewCount = 999, Seed = 44 });
        sampler.Sample(new SampleRange(0, 1_000, 2_000), 1_000).Should().OnlyContain(index => index >= 1_000);

        // All of them count 1,000 now.
        var counts = new long[2];
        for (var i = 0; i < 20; i++)
        {
            foreach (var index in sampler.Sample(new SampleRange(0, 2_000, 2_000), 100)) counts[index / 1_000]++;
        }

        counts.ShouldFit([0.5, 0.5]);
    }

    [Test]
    public void Range_that_moves_down_fails_and_changes_nothing()
    {
        var (sampler, untouched) = (new InverseFrequencySampler(), new InverseFrequencySampler());
        sampler.Sample(new SampleRange(5, 20, 20), 4);
        untouched.Sample(new SampleRange(5, 20, 20), 4);

        var first = () => sampler.Sample(new SampleRange(4, 20, 20), 4);
        var end = () => sampler.Sample(new SampleRange(5, 19, 19), 4);

        first.Should().Throw<ArgumentException>().WithMessage("*[4, 20)*[5, 20)*").WithParameterName("range");
        end.Should().Throw<ArgumentException>().WithMessage("*[5, 19)*[5, 20)*").WithParameterName("range");
        sampler.Save().Should().Equal(untouched.Save());
    }

    [Test]
    public void Range_of_more_samples_than_it_can_count_fails()
    {
        var sample = () => new InverseFrequencySampler().Sample(new SampleRange(0, 1L << 31, 1L << 31), 4);

        sample.Should().Throw<ArgumentException>().WithMessage("*2147483648 samples*at most 2147483647*").WithParameterName("range");
    }

    [Test]
    public void Initial_counts_out_of_range_fail_and_are_named()
    {
        var historical = () => new InverseFrequencySampler(new() { InitialHistoricalCount = 0 });
        var newCount = () => new InverseFrequencySampler(new() { InitialNewCount = -1 });

        historical.Should().Throw<ArgumentException>().WithMessage("*InverseFrequencySamplerOptions.InitialHistoricalCount is 0*between 1 and*");
        newCount.Should().Throw<ArgumentException>().WithMessage("*InverseFrequencySamplerOptions.InitialNewCount is -1*between 1 and*");
    }

    /// <summary>
    /// Runs a stream with arrivals and departures beside a plain count of what was selected. Each draw is placed in [0, 1) by
    /// the weights before it: the sum of those of the samples with a higher count, and a random part of its own. If the
    /// weights are right, places are independent and uniform; they are counted in 20 bins.
    /// </summary>
    private static long[] PlaceDraws(bool withReplacement, bool alwaysIncludeNew, Func<int, double> weight)
    {
        var sampler = new InverseFrequencySampler(
            new()
            {
                InitialHistoricalCount = InitialHistoricalCount,
                InitialNewCount = InitialNewCount,
                WithReplacement = withReplacement,
                AlwaysIncludeNew = alwaysIncludeNew,
                Seed = 41,
            });
        var random = new Random(1);
        var (counts, bins, batch) = (new SortedDictionary<long, int>(), new long[20], new long[12]);
        var (first, firstNew, end) = (0L, 40L, 40L);
        for (var index = 0L; index < firstNew; index++) counts[index] = InitialHistoricalCount;

        for (var step = 0; step < 2500; step++)
        {
            for (var arrivals = random.Next(3); arrivals > 0; arrivals--) counts[end++] = InitialNewCount;
            for (; end - first > 60; first++) counts.Remove(first);
            var result = sampler.Sample(new SampleRange(first, firstNew, end), batch);
            var included = alwaysIncludeNew ? result.NewCount : 0;
            var drawable = counts.Where(sample => !alwaysIncludeNew || sample.Key < firstNew).ToDictionary();
            foreach (var index in batch[included..result.Count])
            {
                var total = drawable.Values.Sum(weight);
                var below = drawable.Where(sample => sample.Value > drawable[index]).Sum(sample => weight(sample.Value));
                var equal = drawable.Where(sample => sample.Value == drawable[index]).Sum(sample => weight(sample.Value));
                bins[(int)((below + (random.NextDouble() * equal)) / total * bins.Length)]++;
                if (!withReplacement) drawable.Remove(index);
            }

            foreach (var index in batch[..result.Count]) counts[index]++;
            firstNew = result.FirstNew;
        }

        return bins;
    }
}
