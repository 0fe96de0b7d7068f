using ContinuousDL.Compression;
using ContinuousDL.Vectors;
using CsCheck;
using static ContinuousDL.Tests.Compression.TestVectors;

namespace ContinuousDL.Tests.Compression;

public class SignCompressorTests
{
    [Test]
    public void Compress_gives_signs_and_the_mean_magnitude_of_each_tensor() =>
        Gen.Select(Lengths, OneOf(FiniteKinds), Gen.Int).Sample(
            (n, kind, seed) =>
            {
                var vector = Create(kind, n, seed);
                var layout = new VectorLayout(Cut(n, seed));
                var result = new CompressedGradient();
                new SignCompressor().Compress(vector, layout, result);
                for (var t = 0; t < layout.TensorCount; t++)
                {
                    var mean = vector[layout[t]].Select(x => Math.Abs((double)x)).DefaultIfEmpty(0).Average();
                    if (Math.Abs(result.Scales[t] - mean) > 1e-6 * mean + 1e-45) return false;
                }

                return result.Levels.SequenceEqual([.. vector.Select(x => (short)(x < 0 ? -1 : 1))]);
            },
            iter: 300);

    [Test]
    public void Compress_per_tensor_takes_one_bit_for_each_coordinate_and_32_for_each_tensor()
    {
        var result = Compress(new SignCompressor(), [1, -2, 3, 0], 3, 1);
        result.Scales.ToArray().Should().Equal(2, 0);
        result.SizeInBits.Should().Be(4 + 64);
    }

    [Test]
    public void Compress_whole_model_has_one_scale()
    {
        var result = Compress(new SignCompressor(CompressionScope.WholeModel), [1, -2, 3, -6], 3, 1);
        result.Scales.ToArray().Should().Equal(3);
        result.SizeInBits.Should().Be(4 + 32);
        var dense = new float[4];
        result.CopyTo(dense);
        dense.Should().Equal(3, -3, 3, -3);
    }

    [Test]
    public void Compress_zero_of_either_sign_counts_as_positive() =>
        Compress(new SignCompressor(), [0, -0f, -1, 3], 4).Levels.ToArray().Should().Equal(1, 1, -1, 1);

    [Test]
    public void Compress_a_tensor_that_is_not_finite_sends_nothing_of_it()
    {
        var dense = new float[5];
        Compress(new SignCompressor(), [1, float.NaN, float.PositiveInfinity, 2, -4], 2, 1, 2).CopyTo(dense);
        dense.Should().Equal(0, 0, 0, 3, -3);
    }

    [Test]
    public void Constructor_scope_out_of_range_throws() =>
        FluentActions.Invoking(() => new SignCompressor((CompressionScope)7))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName("scope");

    private static CompressedGradient Compress(SignCompressor compressor, float[] vector, params int[] lengths)
    {
        var result = new CompressedGradient();
        compressor.Compress(vector, new VectorLayout(lengths), result);
        return result;
    }
}
