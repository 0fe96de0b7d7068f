using ContinuousDL.Evaluation;

namespace ContinuousDL.Tests.Evaluation;

public class PrequentialEstimatorTests
{
    [Test]
    public void Estimate_at_every_value_is_what_a_full_recomputation_gives([Range(1, 20)] int seed)
    {
        var random = new Random(seed);
        var windowSize = random.Next(1, 12);
        var fadingFactor = seed % 5 == 0 ? 1 : 1 - random.NextDouble();
        var estimator = new PrequentialEstimator(windowSize, fadingFactor);
        var values = new List<double>();
        for (var i = 0; i < 60; i++)
        {
            values.Add(random.NextDouble() * 10 - 2);
            estimator.Add(values[^1]);

            var estimate = estimator.Estimate!.Value;
            estimate.Cumulative.Should().BeApproximately(values.Average(), 1e-12);
            estimate.Window.Should().BeApproximately(values.TakeLast(windowSize).Average(), 1e-12);
            estimate.Fading.Should().BeApproximately(WeightedMean(values, fadingFactor), 1e-12);
        }
    }

    [Test]
    public void Window_of_zeros_and_ones_is_exact()
    {
        var random = new Random(7);
        var estimator = new PrequentialEstimator(1000, 0.999);
        var values = Enumerable.Range(0, 10_500).Select(_ => random.Next(2)).ToArray();
        foreach (var value in values) estimator.Add(value);

        estimator.Estimate!.Value.Window.Should().Be(values.TakeLast(1000).Sum() / 1000.0);
        estimator.Estimate.Value.Cumulative.Should().Be(values.Sum() / 10_500.0);
    }

    [Test]
    public void Window_forgets_a_huge_value_without_a_trace([Values(1, 2, 3, 4)] int before)
    {
        var estimator = new PrequentialEstimator(4, 0.5);
        for (var i = 0; i < before; i++) estimator.Add(0.1);
        estimator.Add(1e300);
        for (var i = 0; i < 4; i++) estimator.Add(0.5);

        estimator.Estimate!.Value.Window.Should().Be(0.5);
    }

    [Test]
    public void Estimate_of_no_values_is_null()
    {
        new PrequentialEstimator(10, 0.9).Estimate.Should().BeNull();
    }

    [Test]
    public void Estimates_after_a_restore_are_bit_identical([Values(0, 3, 4, 5, 11)] int valuesBefore)
    {
        var random = new Random(3);
        var estimator = new PrequentialEstimator(4, 0.9);
        for (var i = 0; i < valuesBefore; i++) estimator.Add(random.NextDouble());

        using var reader = new BinaryReader(new MemoryStream(EvaluatorState.Save(estimator.Save)));
        var restored = PrequentialEstimator.Read(reader, 4, 0.9);

        restored.Estimate.Should().Be(estimator.Estimate);
        for (var i = 0; i < 10; i++)
        {
            var value = random.NextDouble();
            estimator.Add(value);
            restored.Add(value);
            restored.Estimate.Should().Be(estimator.Estimate);
        }
    }

    private static double WeightedMean(List<double> values, double fadingFactor)
    {
        var (sum, weights) = (0.0, 0.0);
        for (var i = 0; i < values.Count; i++)
        {
            var weight = Math.Pow(fadingFactor, values.Count - 1 - i);
            sum += weight * values[i];
            weights += weight;
        }

        return sum / weights;
    }
}
