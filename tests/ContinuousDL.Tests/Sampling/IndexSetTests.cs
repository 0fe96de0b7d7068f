using ContinuousDL.Sampling;
using CsCheck;

namespace ContinuousDL.Tests.Sampling;

/// <summary>The set that keeps a sample from being drawn twice.</summary>
public class IndexSetTests
{
    [Test]
    public void Add_says_whether_the_index_is_new_over_any_uses_of_the_set()
    {
        var indices = Gen.OneOf(Gen.Long[0, 20], Gen.Long[0, long.MaxValue - 1], Gen.Long[0, 1000].Select(i => i << 40));
        var set = new IndexSet();

        indices.Array[0, 200].Array[1, 5].Sample(
            uses =>
            {
                foreach (var use in uses)
                {
                    set.Reset(use.Length);
                    var plain = new HashSet<long>();
                    foreach (var index in use) set.Add(index).Should().Be(plain.Add(index));
                }
            },
            iter: 300,
            seed: "0000dGqgr0W5",
            threads: 1);
    }
}
