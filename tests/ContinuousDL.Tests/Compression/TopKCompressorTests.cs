using ContinuousDL.Compression;
using ContinuousDL.Vectors;
using CsCheck;
using static ContinuousDL.Tests.Compression.TestVectors;

namespace ContinuousDL.Tests.Compression;

public class TopKCompressorTests
{
    [TestCase(1e-2, 617)]
    [TestCase(1e-3, 61)]
    [TestCase(1e-4, 6)]
    [TestCase(1, 61_706)]
    [TestCase(1e-5, 1)]
    public void Compress_LeNet_sends_the_floor_of_density_times_n_and_at_least_one(double density, int k)
    {
        var vector = Create(VectorKind.Constant, 61_706, 1);
        Compress(new TopKCompressor(density), vector, vector.Length).Count.Should().Be(k);
    }

    [TestCase(0.29, 100, 29)]
    [TestCase(0.57, 100, 57)]
    [TestCase(0.1, 30, 3)]
    [TestCase(1.0 / 3, 9, 2)]
    public void Compress_takes_the_density_as_the_decimal_number_it_was_written_as(double density, int n, int k)
    {
        var vector = Create(VectorKind.Constant, n, 1);
        Compress(new TopKCompressor(density), vector, n).Count.Should().Be(k);
    }

    [Test]
    public void Compress_whole_model_gives_the_result_of_a_sort() =>
        Gen.Select(Lengths, OneOf(Kinds), Gen.Int, Gen.Int[1, 300]).Sample(
            (n, kind, seed, k) =>
            {
                var vector = Create(kind, n, seed);
                return Matches(Compress(TopKCompressor.OfCount(k), vector, Cut(n, seed)), vector, TopKReference.Select(vector, k));
            },
            iter: 300);

    [Test]
    public void Compress_per_tensor_gives_the_result_of_a_sort_of_each()
    {
        Gen.Select(Lengths, Gen.Select(OneOf(Kinds), Gen.Int).Array[1, 4], Gen.Double[0.001, 1]).Sample(
            (n, calls, density) =>
            {
                var compressor = new TopKCompressor(density, CompressionScope.PerTensor);
                var layout = new VectorLayout(Cut(n, calls[0].Item2));
                var result = new CompressedGradient();
                foreach (var (kind, seed) in calls)
                {
                    var vector = Create(kind, n, seed);
                    compressor.Compress(vector, layout, result);
                    var expected = new List<int>();
                    for (var t = 0; t < layout.TensorCount; t++)
                    {
                        var tensor = vector.AsSpan(layout[t]);
                        var k = Math.Max(1, (int)((decimal)density * tensor.Length));
                        expected.AddRange(TopKReference.Select(tensor, k).Select(i => i + layout.Offsets[t]));
                    }

                    if (!Matches(result, vector, [.. expected])) return false;
                }

                return true;
            },
            iter: 200);
    }

    [Test]
    public void Compress_whole_model_lets_tensors_compete_and_per_tensor_does_not()
    {
        float[] vector = [1, 2, 3, 10, 20, 30];
        Compress(TopKCompressor.OfCount(2), vector, 3, 3).Indices.ToArray().Should().Equal(4, 5);
        Compress(TopKCompressor.OfCount(2, CompressionScope.PerTensor), vector, 3, 3).Indices.ToArray().Should().Equal(1, 2, 4, 5);
    }

    [Test]
    public void Compress_equal_magnitudes_sends_the_lower_index() =>
        Compress(TopKCompressor.OfCount(2), [1, -2, 2, -2, 2], 5).Indices.ToArray().Should().Equal(1, 2);

    [Test]
    public void Compress_fewer_nonzero_than_k_sends_only_these()
    {
        var result = Compress(TopKCompressor.OfCount(3), [0, -0f, 5, 0, -1e-45f, 0], 6);
        result.Indices.ToArray().Should().Equal(2, 4);
        result.Values.ToArray().Should().Equal(5, -1e-45f);
    }

    [Test]
    public void Compress_orders_NaN_above_infinity_above_numbers()
    {
        float[] vector = [float.MaxValue, float.PositiveInfinity, float.NaN, float.NegativeInfinity];
        Compress(TopKCompressor.OfCount(1), vector, 4).Indices.ToArray().Should().Equal(2);
        Compress(TopKCompressor.OfCount(3), vector, 4).Indices.ToArray().Should().Equal(1, 2, 3);
    }

    [Test]
    public void Compress_more_than_there_are_sends_all() =>
        Compress(TopKCompressor.OfCount(9), [3, 1, 2], 3).Indices.ToArray().Should().Equal(0, 1, 2);

    [Test]
    public void Compress_probabilistic_sends_one_with_the_probability_that_the_density_asks_for()
    {
        const int steps = 20_000;
        var compressor = new TopKCompressor(0.01, CompressionScope.PerTensor, SmallCountRounding.Probabilistic, seed: 5);
        var layout = new VectorLayout(10, 50, 300);
        var vector = Create(VectorKind.Normal, layout.Length, 1);
        var result = new CompressedGradient();
        var sent = new int[3];
        for (var step = 0; step < steps; step++)
        {
            compressor.Compress(vector, layout, result);
            foreach (var i in result.Indices) sent[i < 10 ? 0 : i < 60 ? 1 : 2]++;
        }

        // Four standard deviations of a binomial distribution.
        ((double)sent[0] / steps).Should().BeApproximately(0.1, 4 * Math.Sqrt(0.1 * 0.9 / steps));
        ((double)sent[1] / steps).Should().BeApproximately(0.5, 4 * Math.Sqrt(0.5 * 0.5 / steps));
        sent[2].Should().Be(3 * steps, "a density that asks for one or more leaves nothing to chance");
    }

    [Test]
    public void Compress_probabilistic_whole_model_sends_nothing_now_and_then()
    {
        var compressor = new TopKCompressor(0.01, rounding: SmallCountRounding.Probabilistic);
        var counts = Enumerable.Range(0, 100).Select(_ => Compress(compressor, [1, 2, 3], 3).Count).ToArray();
        counts.Should().Contain(0).And.OnlyContain(c => c <= 1);
    }

    [TestCase(0)]
    [TestCase(-0.1)]
    [TestCase(1.01)]
    [TestCase(double.NaN)]
    public void Constructor_density_out_of_range_throws(double density) =>
        FluentActions.Invoking(() => new TopKCompressor(density))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName("density");

    [Test]
    public void Constructor_other_arguments_out_of_range_throw()
    {
        FluentActions.Invoking(() => TopKCompressor.OfCount(0)).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("count");
        FluentActions.Invoking(() => new TopKCompressor(0.1, (CompressionScope)7))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName("scope");
        FluentActions.Invoking(() => new TopKCompressor(0.1, rounding: (SmallCountRounding)7))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName("rounding");
    }

    private static CompressedGradient Compress(TopKCompressor compressor, float[] vector, params int[] lengths)
    {
        var result = new CompressedGradient();
        compressor.Compress(vector, new VectorLayout(lengths), result);
        return result;
    }

    private static bool Matches(CompressedGradient result, float[] vector, int[] expected) =>
        result.Form == CompressedForm.Sparse
        && result.Length == vector.Length
        && result.Indices.SequenceEqual(expected)
        && SameBits(result.Values, [.. expected.Select(i => vector[i])]);
}
