using ContinuousDL.Compression;
using ContinuousDL.Vectors;
using CsCheck;
using static ContinuousDL.Tests.Compression.TestVectors;

namespace ContinuousDL.Tests.Compression;

public class QsgdCompressorTests
{
    private static readonly int[] Bits = [1, 2, 4, 8];

    [Test]
    public void Compress_gives_one_of_the_two_levels_around_the_exact_one() =>
        Gen.Select(Lengths, OneOf(FiniteKinds), Gen.Int, OneOf(Bits), Gen.Enum<QsgdRounding>()).Sample(
            (n, kind, seed, q, rounding) =>
            {
                var vector = Create(kind, n, seed);
                var layout = new VectorLayout(Cut(n, seed));
                var (s, result) = ((1 << q) - 1, new CompressedGradient());
                new QsgdCompressor(q, rounding).Compress(vector, layout, result);
                for (var t = 0; t < layout.TensorCount; t++)
                {
                    var norm = Math.Sqrt(vector[layout[t]].Sum(x => (double)x * x));
                    for (var i = layout.Offsets[t]; i < layout.Offsets[t + 1]; i++)
                    {
                        var level = (double)result.Levels[i];
                        if (Math.Abs(level) > s || (level != 0 && Math.Sign(level) != Math.Sign(vector[i]))) return false;

                        // A norm that float32 can't hold is capped. A denormal step is rounded up to the next denormal: nothing
                        // can be said but that the level is no larger.
                        var step = Math.Min(norm, float.MaxValue) / s;
                        var exact = norm == 0 ? 0 : Math.Abs(vector[i]) / step;
                        if (Math.Abs(level) > exact + 1 + (1e-6 * s)) return false;
                        if (step > 1e-30 && Math.Abs(level) < exact - 1 - (1e-6 * s)) return false;
                    }
                }

                return result.Form == CompressedForm.Quantized && result.SizeInBits == ((q + 1L) * n) + (32L * layout.TensorCount);
            },
            iter: 300);

    [TestCaseSource(nameof(Bits))]
    public void Compress_unbiased_is_right_on_average(int q)
    {
        var (mean, vector, layout) = Mean(new QsgdCompressor(q, QsgdRounding.Unbiased, seed: 3), steps: 20_000);
        AssertNear(mean, vector, layout, q, steps: 20_000, factor: _ => 1);
    }

    [TestCaseSource(nameof(Bits))]
    public void Compress_contractive_is_on_average_scaled_down_by_tau(int q)
    {
        var s = (1 << q) - 1;
        var (mean, vector, layout) = Mean(new QsgdCompressor(q, QsgdRounding.Contractive, seed: 4), steps: 20_000);
        AssertNear(mean, vector, layout, q, steps: 20_000, factor: n => 1 / (1 + Math.Min((double)n / (s * s), Math.Sqrt(n) / s)));
    }

    [TestCaseSource(nameof(Bits))]
    public void Compress_contractive_leaves_on_average_at_most_one_minus_one_over_tau_of_the_squared_norm(int q)
    {
        const int n = 1000, steps = 200;
        var s = (1 << q) - 1;
        var tau = 1 + Math.Min((double)n / (s * s), Math.Sqrt(n) / s);
        var vector = Create(VectorKind.HeavyTailed, n, 8);
        var (compressor, layout, result) = (new QsgdCompressor(q), new VectorLayout(n), new CompressedGradient());
        var left = 0.0;
        for (var step = 0; step < steps; step++)
        {
            compressor.Compress(vector, layout, result);
            var rest = vector.ToArray();
            result.SubtractFrom(rest);
            left += rest.Sum(x => (double)x * x) / steps;
        }

        left.Should().BeLessThan((1 - (1 / tau)) * 1.01 * vector.Sum(x => (double)x * x));
    }

    [Test]
    public void Compress_nearest_rounds_to_the_nearer_level_and_halves_down()
    {
        // The norm is 15 exactly, so that with s = 15 a level is worth 1.
        float[] vector = [3, -2, 0.5f, 0.75f, -1.5f, 0, 14, 3.5f, 0.75f, 0.25f, -0.25f];
        var result = new CompressedGradient();
        new QsgdCompressor(4, QsgdRounding.Nearest).Compress(vector, new VectorLayout(vector.Length), result);
        result.Scales.ToArray().Should().Equal(1);
        result.Levels.ToArray().Should().Equal(3, -2, 0, 1, -1, 0, 14, 3, 1, 0, 0);
    }

    [Test]
    public void Compress_a_value_that_is_a_level_keeps_it()
    {
        for (var seed = 0ul; seed < 50; seed++)
        {
            var result = new CompressedGradient();
            new QsgdCompressor(1, QsgdRounding.Unbiased, seed).Compress([0, -7, 0, -0f], new VectorLayout(4), result);
            result.Levels.ToArray().Should().Equal(0, -1, 0, 0);
            result.Scales.ToArray().Should().Equal(7);
        }
    }

    [TestCase(QsgdRounding.Contractive)]
    [TestCase(QsgdRounding.Unbiased)]
    [TestCase(QsgdRounding.Nearest)]
    public void Compress_a_tensor_that_is_zero_or_not_finite_sends_nothing_of_it_and_all_of_the_others(QsgdRounding rounding)
    {
        float[] vector = [0, 0, 0, 1, float.NaN, 2, float.NegativeInfinity, 1, 5, 0];
        var result = new CompressedGradient();
        new QsgdCompressor(8, rounding).Compress(vector, new VectorLayout(3, 3, 2, 2), result);
        result.Scales[..3].ToArray().Should().Equal(0, 0, 0);
        result.Levels[..8].ToArray().Should().OnlyContain(level => level == 0);
        result.Levels[8..].ToArray().Should().Equal(255, 0);
    }

    [TestCaseSource(nameof(Bits))]
    public void Compress_the_largest_and_the_smallest_numbers_stays_finite(int q)
    {
        var result = new CompressedGradient();
        foreach (var vector in new float[][] { [float.MaxValue], [float.MaxValue, float.MinValue, 1], [1e-45f], [1e-45f, -3e-45f, 0] })
        {
            var dense = new float[vector.Length];
            new QsgdCompressor(q, QsgdRounding.Unbiased).Compress(vector, new VectorLayout(vector.Length), result);
            result.CopyTo(dense);
            dense.Should().OnlyContain(x => float.IsFinite(x));
        }
    }

    [TestCaseSource(nameof(Bits))]
    public void Compress_a_norm_above_the_largest_float_makes_that_number_level_s(int q)
    {
        var s = (1 << q) - 1;
        var result = new CompressedGradient();

        new QsgdCompressor(q, QsgdRounding.Nearest).Compress([float.MaxValue, float.MinValue, 0, float.MaxValue / 2], new VectorLayout(4), result);

        (result.Scales[0] * s).Should().BeInRange(float.MaxValue * (1 - 1e-6f), float.MaxValue);
        result.Levels[..3].ToArray().Should().Equal((short)s, (short)-s, 0);
    }

    [Test]
    public void Compress_rounds_each_call_and_each_tensor_with_other_random_numbers()
    {
        float[] vector = [.. Create(VectorKind.Normal, 1000, 1), .. Create(VectorKind.Normal, 1000, 1)];
        var compressor = new QsgdCompressor(2, QsgdRounding.Unbiased);
        var (layout, result) = (new VectorLayout(1000, 1000), new CompressedGradient());
        compressor.Compress(vector, layout, result);
        var first = result.Levels.ToArray();
        compressor.Compress(vector, layout, result);
        first[..1000].Should().NotEqual(first[1000..]);
        result.Levels.ToArray().Should().NotEqual(first);
    }

    [Test]
    public void Compress_gives_the_same_for_a_seed_on_every_machine()
    {
        var vector = Enumerable.Range(0, 40).Select(i => ((i * 37 % 101) - 50) / 8f).ToArray();
        var result = new CompressedGradient();
        new QsgdCompressor(2, QsgdRounding.Unbiased, seed: 1).Compress(vector, new VectorLayout(40), result);
        result.Scales.ToArray().Should().Equal(7.770582f);
        result.Levels.ToArray().Should().Equal(
            -1, -1, 0, -1, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, -1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 1, -1, 0, 1, -1, 0, 0, 0);
    }

    [TestCase(0)]
    [TestCase(3)]
    [TestCase(16)]
    public void Constructor_q_other_than_1_2_4_8_throws(int q) =>
        FluentActions.Invoking(() => new QsgdCompressor(q)).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("q");

    private static (double[] Mean, float[] Vector, VectorLayout Layout) Mean(QsgdCompressor compressor, int steps)
    {
        var layout = new VectorLayout(7, 40);
        var vector = Create(VectorKind.Normal, layout.Length, 6);
        var (result, sent, mean) = (new CompressedGradient(), new float[layout.Length], new double[layout.Length]);
        for (var step = 0; step < steps; step++)
        {
            compressor.Compress(vector, layout, result);
            result.CopyTo(sent);
            for (var i = 0; i < mean.Length; i++) mean[i] += sent[i] / (double)steps;
        }

        return (mean, vector, layout);
    }

    /// <summary>A value varies by at most half a level; the mean of many may be off by four and a half standard deviations.</summary>
    private static void AssertNear(double[] mean, float[] vector, VectorLayout layout, int q, int steps, Func<int, double> factor)
    {
        for (var t = 0; t < layout.TensorCount; t++)
        {
            var tensor = vector[layout[t]];
            var (norm, scale) = (Math.Sqrt(tensor.Sum(x => (double)x * x)), factor(tensor.Length));
            var tolerance = 4.5 * scale * norm / ((1 << q) - 1) / 2 / Math.Sqrt(steps);
            for (var i = 0; i < tensor.Length; i++) mean[layout.Offsets[t] + i].Should().BeApproximately(scale * tensor[i], tolerance);
        }
    }
}
