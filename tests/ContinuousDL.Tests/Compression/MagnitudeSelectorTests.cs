using ContinuousDL.Compression;
using ContinuousDL.Replication.Models;
using CsCheck;
using static ContinuousDL.Tests.Compression.TestVectors;

namespace ContinuousDL.Tests.Compression;

public class MagnitudeSelectorTests
{
    [Test]
    public void Any_sequence_of_vectors_gives_the_result_of_a_sort_whatever_was_carried_over()
    {
        var call = Gen.Select(OneOf(Kinds), Gen.Int, Gen.Int[-30, 30], Gen.Double[0, 1], Gen.Int[0, 2]);
        Gen.Select(Lengths, call.Array[1, 8]).Sample(
            (n, calls) =>
            {
                var selector = new MagnitudeSelector();
                foreach (var (kind, seed, exponent, share, slot) in calls)
                {
                    var vector = Create(kind, n, seed);
                    for (var i = 0; i < n; i++) vector[i] *= MathF.Pow(2, exponent);

                    // Small shares are the usual ones; the fourth power makes them so.
                    var k = (int)Math.Round(n * Math.Pow(share, 4));
                    selector.Begin(n, k, slot);
                    ScanInBlocks(selector, vector, seed);
                    selector.Finish(vector);
                    if (!IsExact(selector, vector, k)) return false;
                }

                return true;
            },
            iter: 300);
    }

    [Test]
    public void Every_k_of_every_kind_around_the_vector_widths_is_exact()
    {
        var selector = new MagnitudeSelector();
        foreach (var kind in Kinds)
        {
            foreach (var n in new[] { 0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200 })
            {
                var vector = Create(kind, n, n);
                var order = TopKReference.Order(vector);
                for (var k = 0; k <= n + 2; k++)
                {
                    Select(selector, vector, k);
                    Matches(selector, vector, TopKReference.Select(order, k)).Should().BeTrue($"{kind}, n = {n}, k = {k}");
                }
            }
        }
    }

    [TestCaseSource(typeof(TestVectors), nameof(Kinds))]
    public void A_long_vector_is_exact_with_no_guess_a_good_one_one_too_high_and_one_too_low(VectorKind kind)
    {
        const int n = 100_000;
        var vector = Create(kind, n, 1);
        var order = TopKReference.Order(vector);
        foreach (var k in new[] { 1, 10, 1000, 30_000, n - 1, n })
        {
            var expected = TopKReference.Select(order, k);
            var selector = new MagnitudeSelector();
            foreach (var before in new[] { vector, vector, Scaled(vector, 1e6f), Scaled(vector, 1e-6f) })
            {
                Select(selector, before, k);
                Select(selector, vector, k);
                Matches(selector, vector, expected).Should().BeTrue($"k = {k}");
            }
        }
    }

    [Test]
    public void Vectors_that_change_little_take_one_pass()
    {
        var random = new Random(1);
        var vector = Create(VectorKind.HeavyTailed, 100_000, 2);
        var selector = new MagnitudeSelector();
        var passes = 0;
        for (var step = 0; step < 50; step++)
        {
            for (var i = 0; i < vector.Length; i++) vector[i] *= 1 + (0.02f * random.NextSingle());
            Select(selector, vector, 100);
            passes += selector.Passes;
        }

        passes.Should().Be(50);
    }

    [Test]
    public void A_guess_that_is_too_high_takes_a_second_pass()
    {
        var vector = Create(VectorKind.Normal, 100_000, 3);
        var selector = new MagnitudeSelector();
        Select(selector, Scaled(vector, 1000), 100);
        Select(selector, vector, 100);
        selector.Passes.Should().Be(2);
        IsExact(selector, vector, 100).Should().BeTrue();
    }

    [Test]
    public void A_guess_that_is_too_low_for_ascending_values_is_given_up_for_a_second_pass()
    {
        var vector = Create(VectorKind.Ascending, 1_000_000, 4);
        var selector = new MagnitudeSelector();
        Select(selector, vector, 1000);
        selector.Passes.Should().Be(2);
        IsExact(selector, vector, 1000).Should().BeTrue();
    }

    [Test]
    public void Blocks_out_of_order_or_missing_leave_the_result_exact()
    {
        var vector = Create(VectorKind.FewDistinct, 10_000, 5);
        var selector = new MagnitudeSelector();

        selector.Begin(vector.Length, 100);
        selector.Scan(vector.AsSpan(5000), 5000);
        selector.Scan(vector.AsSpan(0, 5000), 0);
        selector.Finish(vector);
        IsExact(selector, vector, 100).Should().BeTrue("blocks in another order");

        selector.Begin(vector.Length, 100);
        selector.Scan(vector.AsSpan(0, 9000), 0);
        selector.Finish(vector);
        IsExact(selector, vector, 100).Should().BeTrue("the last block missing");

        selector.Begin(vector.Length, 100);
        selector.Finish(vector);
        IsExact(selector, vector, 100).Should().BeTrue("no block at all");
    }

    private static void Select(MagnitudeSelector selector, float[] vector, int k)
    {
        selector.Begin(vector.Length, k);
        selector.Scan(vector, 0);
        selector.Finish(vector);
    }

    private static void ScanInBlocks(MagnitudeSelector selector, float[] vector, int seed)
    {
        var random = new Random(seed);
        for (var offset = 0; offset < vector.Length;)
        {
            var length = Math.Min(vector.Length - offset, random.Next(1 + (vector.Length / 3)) + 1);
            selector.Scan(vector.AsSpan(offset, length), offset);
            offset += length;
        }
    }

    private static bool IsExact(MagnitudeSelector selector, float[] vector, int k) =>
        Matches(selector, vector, TopKReference.Select(vector, k));

    private static bool Matches(MagnitudeSelector selector, float[] vector, int[] expected) =>
        selector.Indices.SequenceEqual(expected) && SameBits(selector.Values, [.. expected.Select(i => vector[i])]);

    private static float[] Scaled(float[] vector, float factor) => [.. vector.Select(x => x * factor)];
}
