using ContinuousDL.Compression;
using CsCheck;
using static ContinuousDL.Tests.Compression.TestVectors;

namespace ContinuousDL.Tests.Compression;

public class MagnitudeRankTests
{
    [Test]
    public void Find_gives_the_magnitude_at_the_rank_and_its_share_of_ties() =>
        Gen.Select(OneOf(Kinds), Gen.Int[1, 1000], Gen.Int, Gen.Int[1, 1000]).Sample(
            (kind, n, seed, rank) =>
            {
                var k = 1 + (rank % n);
                var bits = Create(kind, n, seed).Select(BitConverter.SingleToInt32Bits).ToArray();
                var sorted = bits.Select(b => b & int.MaxValue).OrderDescending().ToArray();
                var expected = (sorted[k - 1], sorted.Take(k).Count(m => m == sorted[k - 1]));

                var before = bits.ToArray();
                var apart = new MagnitudeRank().Find(bits, k, new int[n]);
                return apart == expected && bits.SequenceEqual(before) && new MagnitudeRank().Find(bits, k, bits) == expected;
            },
            iter: 2000);

    [Test]
    public void FindFloor_has_at_least_k_and_at_most_the_number_allowed_above_it_or_says_that_it_does_not() =>
        Gen.Select(OneOf(Kinds), Gen.Int[1, 1000], Gen.Int, Gen.Int[1, 1000], Gen.Int[0, 100]).Sample(
            (kind, n, seed, rank, slack) =>
            {
                var bits = Create(kind, n, seed).Select(BitConverter.SingleToInt32Bits).Where(b => (b & int.MaxValue) != 0).ToArray();
                if (bits.Length == 0) return true;
                var k = 1 + (rank % bits.Length);

                var floor = new MagnitudeRank().FindFloor(bits, k, k + slack);
                var above = bits.Count(b => (b & int.MaxValue) > floor);
                return floor == -1 ? k + slack < bits.Length : above >= k && above <= k + slack;
            },
            iter: 2000);

    [Test]
    public void FindFloor_tells_values_apart_that_are_spread_evenly()
    {
        var bits = Enumerable.Range(1, 2000).Select(i => BitConverter.SingleToInt32Bits(1 + (i * 1e-4f))).ToArray();

        new MagnitudeRank().FindFloor(bits, 500, 510).Should().BeGreaterThan(0);
    }
}
