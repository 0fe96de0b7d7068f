using System.Text.Json;
using ContinuousDL.Benchmarks.Ratios;
using CsCheck;

namespace ContinuousDL.Tests.Benchmarks;

/// <summary>The paired measurement: how a ratio comes about, when a bar holds, and the JSON.</summary>
public class RatiosTests
{
    [Test]
    public void A_ratio_is_the_median_of_the_ratios_within_the_rounds()
    {
        // The machine was ten times slower in the second round, and something else ran beside one variant in the third.
        var times = new PairedTimes([[2, 1], [20, 10], [3, 30], [1.9, 1], [2.1, 1]]);
        times.Ratio(0, 1).Median.Should().BeApproximately(2, 1e-12);
        times.Ratio(1, 0).Median.Should().BeApproximately(0.5, 1e-12);
        times.Ratio(0, 1, factor: 3).Median.Should().BeApproximately(6, 1e-12);
        times.Median(0).TotalSeconds.Should().BeApproximately(2.1, 1e-6);
    }

    [Test]
    public void Measure_runs_every_variant_equally_often()
    {
        var runs = new int[2];
        var times = PairedTimes.Measure(
            budget: TimeSpan.Zero,
            shortest: TimeSpan.Zero,
            () => runs[0]++,
            () => runs[1]++);
        times.Rounds.Should().Be(5);
        runs[0].Should().Be(runs[1]);
    }

    [Test]
    public void The_median_has_as_many_figures_below_as_above() => Gen.Double[-1e6, 1e6].Array[1, 50].Sample(
        figures =>
        {
            var spread = Spread.Of(figures);
            figures.Count(f => f < spread.Median).Should().BeLessThanOrEqualTo(figures.Length / 2);
            figures.Count(f => f > spread.Median).Should().BeLessThanOrEqualTo(figures.Length / 2);
            spread.Lower.Should().BeLessThanOrEqualTo(spread.Median);
            spread.Upper.Should().BeGreaterThanOrEqualTo(spread.Median);
        },
        seed: "0000KOIPJFVa");

    [Test]
    public void Without_figures_there_is_no_median() => FluentActions.Invoking(() => Spread.Of([])).Should().Throw<ArgumentException>();

    [TestCase(1.02, false, 1.02, ExpectedResult = true)]
    [TestCase(1.02, false, 1.021, ExpectedResult = false)]
    [TestCase(25, true, 25, ExpectedResult = true)]
    [TestCase(25, true, 24.9, ExpectedResult = false)]
    [TestCase(25, true, double.NaN, ExpectedResult = false)]
    [TestCase(1.02, false, double.NaN, ExpectedResult = false)]
    public bool A_bar_holds_up_to_its_limit(double limit, bool atLeast, double ratio) => new Bar("", limit, atLeast).IsHeldBy(ratio);

    [Test]
    public void WriteJson_gives_an_array_of_name_ratio_bar_and_holds()
    {
        using var stream = new MemoryStream();
        RatioResult.WriteJson(
            [new(new Bar("a / b", 1.5), Spread.Of([1, 2, 3])), new(new Bar("times faster", 25, AtLeast: true), Spread.Exactly(30))], stream);

        using var document = JsonDocument.Parse(stream.ToArray());
        var results = document.RootElement.EnumerateArray().ToList();
        results.Should().HaveCount(2);
        results[0].EnumerateObject().Select(p => p.Name).Should().Equal("name", "ratio", "bar", "holds");
        results[0].GetProperty("name").GetString().Should().Be("a / b");
        results[0].GetProperty("ratio").GetDouble().Should().Be(2);
        results[0].GetProperty("bar").GetDouble().Should().Be(1.5);
        results[0].GetProperty("holds").GetBoolean().Should().BeFalse();
        results[1].GetProperty("holds").GetBoolean().Should().BeTrue();
    }
}
