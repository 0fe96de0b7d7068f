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
}
