using ContinuousDL.Compression;
using ContinuousDL.Randomness;
using ContinuousDL.Replication.Models;
using ContinuousDL.Vectors;
using CsCheck;

namespace ContinuousDL.Tests.Compression;

public class RandomKCompressorTests
{
    [Test]
    public void Draw_gives_ascending_distinct_numbers_in_range() =>
        Gen.Select(Gen.Int[1, 3000], Gen.Double[0, 1], Gen.ULong).Sample((n, share, seed) =>
        {
            var numbers = new int[(int)Math.Round(share * n)];
            new RandomSubset().Draw(n, numbers, new RandomSource(seed));
            return numbers.Zip(numbers.Skip(1)).All(p => p.First < p.Second) && numbers.All(i => i >= 0 && i < n);
        });

    [Test]
    public void Draw_from_the_largest_n_stays_in_range()
    {
        var numbers = new int[1000];
        new RandomSubset().Draw(int.MaxValue, numbers, new RandomSource(1));
        numbers.Should().BeInAscendingOrder().And.OnlyHaveUniqueItems();
        numbers[0].Should().BeGreaterThanOrEqualTo(0);
        numbers.Should().Contain(i => i > int.MaxValue / 10 * 9);
    }

    [Test]
    public void Draw_makes_every_subset_equally_likely()
    {
        // All 56 subsets of 3 out of 8. The 99.9th percentile of chi-square with 55 degrees of freedom is 93.2.
        const int draws = 56_000;
        var (subset, random, numbers) = (new RandomSubset(), new RandomSource(7), new int[3]);
        var counts = new Dictionary<(int, int, int), int>();
        for (var i = 0; i < draws; i++)
        {
            subset.Draw(8, numbers, random);
            var key = (numbers[0], numbers[1], numbers[2]);
            counts[key] = counts.GetValueOrDefault(key) + 1;
        }

        counts.Should().HaveCount(56);
        counts.Values.Sum(c => (c - 1000.0) * (c - 1000.0) / 1000).Should().BeLessThan(93.2);
    }

    [Test]
    public void Compress_selects_every_coordinate_equally_often()
    {
        // Selections within one draw exclude one another, so the sum of squares is (n − k)/(n − 1) of a chi-square's with
        // n − 1 degrees of freedom; the 99.9th percentile for 199 is 267.
        const int n = 200, k = 20, steps = 20_000;
        var compressor = RandomKCompressor.OfCount(k, seed: 3);
        var (layout, vector, result) = (new VectorLayout(n), new float[n], new CompressedGradient());
        var counts = new int[n];
        for (var step = 0; step < steps; step++)
        {
            compressor.Compress(vector, layout, result);
            foreach (var i in result.Indices) counts[i]++;
        }

        const double expected = (double)steps * k / n;
        var sum = counts.Sum(c => (c - expected) * (c - expected) / expected);
        (sum * (n - 1) / (n - k)).Should().BeLessThan(267);
    }

    [Test]
    public void Compress_biased_sends_the_values_as_they_are()
    {
        var vector = TestVectors.Create(VectorKind.HeavyTailed, 1000, 1);
        var result = Compress(new RandomKCompressor(0.05), vector, 1000);
        result.Count.Should().Be(50);
        result.Values.ToArray().Should().Equal(result.Indices.ToArray().Select(i => vector[i]));
    }

    [Test]
    public void Compress_per_tensor_sends_k_of_each()
    {
        var result = Compress(RandomKCompressor.OfCount(4, scope: CompressionScope.PerTensor), new float[111], 100, 1, 10, 0);
        var indices = result.Indices.ToArray();
        indices.Should().BeInAscendingOrder().And.OnlyHaveUniqueItems();
        indices.Count(i => i < 100).Should().Be(4);
        indices.Count(i => i == 100).Should().Be(1);
        indices.Count(i => i > 100).Should().Be(4);
    }

    [TestCase(CompressionScope.WholeModel, SmallCountRounding.AtLeastOne)]
    [TestCase(CompressionScope.PerTensor, SmallCountRounding.AtLeastOne)]
    [TestCase(CompressionScope.PerTensor, SmallCountRounding.Probabilistic)]
    public void Compress_unbiased_is_right_on_average(CompressionScope scope, SmallCountRounding rounding)
    {
        const int steps = 50_000;
        var compressor = new RandomKCompressor(0.1, unbiased: true, scope, rounding, seed: 11);
        var layout = new VectorLayout(4, 16);
        var vector = TestVectors.Create(VectorKind.Normal, 20, 2);
        var (result, sum) = (new CompressedGradient(), new float[20]);
        for (var step = 0; step < steps; step++)
        {
            compressor.Compress(vector, layout, result);
            result.AddTo(sum);
        }

        for (var i = 0; i < 20; i++)
        {
            // A coordinate is sent with a probability of at least p = 1/16, as x/p: the standard deviation of the mean is at
            // most |x| · √((1 − p)/p/steps). Four of those.
            (sum[i] / steps).Should().BeApproximately(vector[i], 4 * Math.Abs(vector[i]) * MathF.Sqrt(15f / steps));
        }
    }

    [Test]
    public void Constructor_arguments_out_of_range_throw()
    {
        FluentActions.Invoking(() => new RandomKCompressor(0)).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("density");
        FluentActions.Invoking(() => RandomKCompressor.OfCount(-1))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName("count");
        FluentActions.Invoking(() => new RandomKCompressor(0.1, scope: (CompressionScope)7))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName("scope");
    }

    private static CompressedGradient Compress(RandomKCompressor compressor, float[] vector, params int[] lengths)
    {
        var result = new CompressedGradient();
        compressor.Compress(vector, new VectorLayout(lengths), result);
        return result;
    }
}
