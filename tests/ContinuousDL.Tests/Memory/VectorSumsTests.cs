using ContinuousDL.Memory;
using ContinuousDL.Tests.Compression;
using CsCheck;

namespace ContinuousDL.Tests.Memory;

public class VectorSumsTests
{
    [Test]
    public void Sums_agree_with_plain_ones() =>
        Gen.Select(TestVectors.Lengths, TestVectors.OneOf(TestVectors.FiniteKinds), Gen.Int).Sample(
            (n, kind, seed) =>
            {
                var vector = TestVectors.Create(kind, n, seed);
                return IsNear(VectorSums.OfSquares(vector), vector.Sum(x => (double)x * x))
                    && IsNear(VectorSums.OfMagnitudes(vector), vector.Sum(x => Math.Abs((double)x)));
            },
            iter: 300);

    [Test]
    public void Sums_of_the_largest_numbers_do_not_overflow()
    {
        var vector = Enumerable.Repeat(float.MinValue, 1000).ToArray();
        VectorSums.OfSquares(vector).Should().BeApproximately(1000.0 * float.MaxValue * float.MaxValue, 1e66);
        VectorSums.OfMagnitudes(vector).Should().BeApproximately(1000.0 * float.MaxValue, 1e30);
    }

    [TestCase(float.NaN)]
    [TestCase(float.NegativeInfinity)]
    public void Sums_with_a_value_that_is_not_finite_are_not(float value)
    {
        foreach (var place in new[] { 3, 40 })
        {
            var vector = new float[41];
            vector[place] = value;
            double.IsFinite(VectorSums.OfSquares(vector)).Should().BeFalse();
            double.IsFinite(VectorSums.OfMagnitudes(vector)).Should().BeFalse();
        }
    }

    private static bool IsNear(double actual, double expected) => Math.Abs(actual - expected) <= 1e-12 * expected;
}
