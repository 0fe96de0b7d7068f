using ContinuousDL.Sampling;

namespace ContinuousDL.Tests.Sampling;

/// <summary>What the window sampler draws from, and how often.</summary>
public class WindowSamplerTests
{
    [Test]
    public void Every_subset_of_the_window_is_equally_likely_and_nothing_older_is_drawn()
    {
        var sampler = new WindowSampler(new() { WindowSize = 7, Seed = 21 });
        var batch = new long[3];

        var counts = Subsets.Count(7, 3, 30_000, places =>
        {
            sampler.Sample(new SampleRange(0, 1_000, 1_000), batch);
            for (var i = 0; i < batch.Length; i++) places[i] = batch[i] - 993;
        });

        counts.ShouldFit(ChiSquare.Uniform(counts.Length));
    }

    [Test]
    public void New_samples_are_part_of_the_window()
    {
        var sampler = new WindowSampler(new() { WindowSize = 5 });

        var batch = sampler.Sample(new SampleRange(0, 100, 102), 10);

        batch.Should().BeEquivalentTo(new long[] { 97, 98, 99, 100, 101 });
    }

    [Test]
    public void New_samples_that_fill_the_window_leave_no_historical_ones_to_draw()
    {
        var sampler = new WindowSampler(new() { WindowSize = 5 });

        var batch = sampler.Sample(new SampleRange(0, 100, 108), 10);

        batch.Should().Equal(100, 101, 102, 103, 104, 105, 106, 107);
    }

    [Test]
    public void Window_longer_than_the_history_is_all_of_it()
    {
        var sampler = new WindowSampler(new() { WindowSize = long.MaxValue });

        var batch = sampler.Sample(new SampleRange(2, 6, 6), 10);

        batch.Should().BeEquivalentTo(new long[] { 2, 3, 4, 5 });
    }

    [Test]
    public void Window_out_of_range_fails_and_is_named()
    {
        var make = () => new WindowSampler(new() { WindowSize = 0 });

        make.Should().Throw<ArgumentException>().WithMessage("*WindowSamplerOptions.WindowSize is 0*between 1 and*").WithParameterName("options");
    }
}
