using ContinuousDL.Compression;
using ContinuousDL.Vectors;
using CsCheck;
using static ContinuousDL.Tests.Compression.TestVectors;

namespace ContinuousDL.Tests.Compression;

public class ThresholdCompressorTests
{
    [Test]
    public void Compress_sends_all_that_reach_the_threshold_and_are_not_zero() =>
        Gen.Select(Lengths, OneOf(Kinds), Gen.Int, Gen.OneOf(Gen.Const(0f), Gen.Const(0.25f), Gen.Float[0, 3])).Sample(
            (n, kind, seed, threshold) =>
            {
                var vector = Create(kind, n, seed);
                var result = new CompressedGradient();
                new ThresholdCompressor(threshold).Compress(vector, new VectorLayout(n), result);
                var reaches = (float x) => float.IsNaN(x) || (Math.Abs(x) >= threshold && x != 0);
                int[] expected = [.. Enumerable.Range(0, n).Where(i => reaches(vector[i]))];
                return result.Length == n
                    && result.Indices.SequenceEqual(expected)
                    && SameBits(result.Values, [.. expected.Select(i => vector[i])]);
            },
            iter: 500);

    [TestCase(-1f)]
    [TestCase(float.NaN)]
    [TestCase(float.PositiveInfinity)]
    public void Constructor_threshold_out_of_range_throws(float threshold) =>
        FluentActions.Invoking(() => new ThresholdCompressor(threshold))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName("threshold");
}
