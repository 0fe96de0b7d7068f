using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Tests.Wire;

/// <summary>Coordinates take hardly more than their entropy.</summary>
public class CoordinateCodeTests
{
    private static readonly int[] Totals = [1_000, 61_706, 2_236_682, 11_181_642];
    private static readonly int[] Counts = [5, 12, 100, 1_118, 20_000, 111_816];
    private static readonly double[] Densities = [0.05, 0.1, 0.2, 0.3, 0.38, 0.5, 0.62, 0.8, 0.95];

    private static IEnumerable<object[]> Grid() =>
        from total in Totals
        from count in Counts.Concat(total < 10_000 ? [] : Densities.Select(density => (int)(density * total)))
        where count < total && count <= 500_000
        select new object[] { total, count };

    [TestCaseSource(nameof(Grid))]
    public void Uniform_coordinates_take_at_most_5_percent_more_than_their_entropy(int total, int count)
    {
        var random = new Random(1);
        var repetitions = Math.Max(1, 3_000 / count);
        var bits = 0L;
        for (var i = 0; i < repetitions; i++)
        {
            var coordinates = Uniform(total, count, random);
            var writer = new BitWriter(0);
            CoordinateCode.Encode(coordinates, total, ref writer);
            writer.PadToByte();
            bits += 8L * writer.Written.Length;
            var decoded = new int[count];
            var reader = new BitReader(writer.Written);
            CoordinateCode.Decode(ref reader, total, decoded);
            bits -= (8L * writer.Written.Length) - reader.Position;
            decoded.AsSpan().SequenceEqual(coordinates).Should().BeTrue();
            writer.Dispose();
        }

        var entropy = Log2Binomial(total, count) * repetitions;
        TestContext.Out.WriteLine($"{bits / entropy:f4} of the entropy, {bits / (double)count / repetitions:f3} bits for each coordinate");
        bits.Should().BeLessThanOrEqualTo((long)(1.05 * entropy));
    }

    [Test]
    public void Clustered_coordinates_take_less_than_the_entropy_of_uniform_ones()
    {
        const int total = 1_000_000;
        var random = new Random(1);
        int[] coordinates = [.. Uniform(100_000, 9_000, random).Select(c => 300_000 + c), .. Uniform(500_000, 1_000, random).Select(c => 500_000 + c)];
        var writer = new BitWriter(0);
        CoordinateCode.Encode(coordinates, total, ref writer);
        writer.PadToByte();
        (8.0 * writer.Written.Length).Should().BeLessThan(0.75 * Log2Binomial(total, coordinates.Length));
        writer.Dispose();
    }

    private static int[] Uniform(int total, int count, Random random)
    {
        if (count > total / 4)
        {
            var all = Enumerable.Range(0, total).ToArray();
            random.Shuffle(all);
            return [.. all.Take(count).Order()];
        }

        var drawn = new HashSet<int>(count);
        while (drawn.Count < count) drawn.Add(random.Next(total));
        return [.. drawn.Order()];
    }

    private static double Log2Binomial(int n, int k)
    {
        var bits = 0.0;
        for (var i = 0; i < k; i++) bits += Math.Log2((double)(n - i) / (k - i));
        return bits;
    }
}
