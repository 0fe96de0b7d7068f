using ContinuousDL.Benchmarks.Compression;
using ContinuousDL.Compression;
using ContinuousDL.Vectors;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Benchmarks;

/// <summary>What is compared does the same: the usual recipe sends what this library sends, the threshold estimate about as much.</summary>
public class CompressionVariantTests
{
    private const double Density = 0.01;

    private static readonly VectorLayout Layout = new(20_000, 1_000, 4_000);

    [Test]
    public void The_usual_recipe_sends_the_same_as_ours_step_by_step()
    {
        random.manual_seed(1);
        using var gradients = new HeavyTailedGradients(Layout);
        using var recipe = new UsualRecipe(Layout.Length, Density);
        using var ours = new ErrorFeedbackTopK(Layout, Density, CompressionScope.WholeModel);
        for (var step = 0; step < 20; step++)
        {
            var gradient = gradients.Next();
            using var expected = recipe.Step(gradient);
            ours.Step(gradient);
            var actual = new float[Layout.Length];
            ours.Sent.CopyTo(actual);
            actual.Should().Equal(HeavyTailedGradients.Elements(expected).ToArray());
        }
    }

    [Test]
    public void The_threshold_estimate_sends_roughly_as_much()
    {
        random.manual_seed(1);
        using var gradients = new HeavyTailedGradients(Layout);
        using var estimate = new ThresholdEstimate(Layout.Length, Density);
        for (var step = 0; step < 5; step++)
        {
            using var sent = estimate.Step(gradients.Next());
            using var count = sent.count_nonzero();
            count.item<long>().Should().BeInRange((long)(0.7 * Layout.Length * Density) - 1, (long)(1.3 * Layout.Length * Density) + 1);
        }
    }

    [Test]
    public void Gradients_have_heavier_tails_than_normal_ones()
    {
        random.manual_seed(1);
        using var gradients = new HeavyTailedGradients(Layout);
        using var gradient = gradients.Next().square();
        using var fourth = gradient.square().mean();
        using var second = gradient.mean();
        var kurtosis = fourth.item<float>() / (second.item<float>() * second.item<float>());
        kurtosis.Should().BeGreaterThan(10, "that of a normal distribution is 3");
    }
}
