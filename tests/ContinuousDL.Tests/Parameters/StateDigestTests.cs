using ContinuousDL.Replication.Models;
using CsCheck;

namespace ContinuousDL.Tests.Parameters;

/// <summary>The digest is the sum of its hashes, however many are computed at once.</summary>
public class StateDigestTests
{
    private static readonly (DType DType, int Size)[] Elements = [(DType.Float32, 4), (DType.BFloat16, 2), (DType.Int64, 8), (DType.Bool, 1)];

    [Test]
    public void Sum_and_Change_are_those_of_single_coordinates() =>
        Gen.Select(Gen.Int[0, 3], Gen.Int[0, 70], Gen.Int[0, 1_000_000_000], Gen.Int).Sample((element, length, offset, seed) =>
        {
            var (dtype, size) = Elements[element];
            var entry = new LayoutEntry("t", CoordinateKind.Parameter, dtype, [length], offset, length);
            var random = new Random(seed);
            var (before, after) = (new byte[length * size], new byte[length * size]);
            random.NextBytes(before);
            random.NextBytes(after);
            int[] coordinates = [.. Enumerable.Range(0, length).Where(_ => random.Next(3) > 0)];
            var (all, change) = (0ul, 0ul);
            for (var i = 0; i < length; i++) all += StateDigest.Hash(offset + i, Scalars.Load(before, i, size));
            foreach (var i in coordinates) change += StateDigest.Hash(offset + i, Scalars.Load(after, i, size)) - StateDigest.Hash(offset + i, Scalars.Load(before, i, size));

            StateDigest.Sum(entry, before).Should().Be(all);
            byte[] Pick(byte[] values) => [.. coordinates.SelectMany(i => values[(i * size)..((i + 1) * size)])];
            StateDigest.Change(entry, [.. coordinates.Select(i => offset + i)], Pick(before), Pick(after)).Should().Be(change);
        });
}
