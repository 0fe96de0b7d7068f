using ContinuousDL.Replication.Models;
using CsCheck;

namespace ContinuousDL.Tests.Parameters;

/// <summary>Coordinates are cut at the borders of tensors, and of runs of tensors of one kind and dtype.</summary>
public class CoordinateSectionsTests
{
    private static readonly DType[] DTypes = [DType.Float32, DType.Int64, DType.BFloat16];

    private static readonly Gen<(int Kind, int DType, int Length)[]> Tensors = Gen.Select(Gen.Int[0, 1], Gen.Int[0, 2], Gen.Int[0, 20]).Array[1, 12];

    [Test]
    public void Sections_are_the_coordinates_and_bytes_of_each_tensor_and_run_that_has_any() =>
        Gen.Select(Tensors, Gen.Int, Gen.Double[0, 1]).Sample((tensors, seed, density) =>
        {
            var layout = ModelLayout.Of(tensors.Select((t, i) => new TensorDescription($"t{i}", (CoordinateKind)t.Kind, DTypes[t.DType], [t.Length])));
            var random = new Random(seed);
            int[] coordinates = [.. Enumerable.Range(0, layout.Count).Where(_ => random.NextDouble() < density)];
            Check(layout.Tensors, coordinates);
            Check(layout.Runs, coordinates);
            CoordinateSections.SizeOf(coordinates, layout).Should().Be(coordinates.Sum(c => layout.Entries[layout.EntryOf(c)].ElementSize));

            var places = layout.Runs.ToArray();
            places.Sum(r => r.Length).Should().Be(layout.Count);
            for (var r = 1; r < places.Length; r++) (places[r].Kind, places[r].DType).Should().NotBe((places[r - 1].Kind, places[r - 1].DType));
        });

    [Test]
    public void CountBelow_counts_those_below() =>
        Gen.Select(Gen.Int[0, 60].Array[0, 40], Gen.Int[-1, 61]).Sample((values, end) =>
        {
            int[] ascending = [.. values.Distinct().Order()];
            CoordinateSearch.CountBelow(ascending, end).Should().Be(ascending.Count(v => v < end));
        });

    private static void Check(ReadOnlySpan<LayoutEntry> entries, int[] coordinates)
    {
        var sections = new CoordinateSections(coordinates, entries);
        var start = 0L;
        for (var i = 0; i < entries.Length; i++)
        {
            var entry = entries[i];
            int[] own = [.. coordinates.Where(c => c >= entry.Offset && c < entry.End)];
            if (own.Length == 0) continue;
            sections.MoveNext().Should().BeTrue();
            sections.Index.Should().Be(i);
            sections.Coordinates.ToArray().Should().Equal(own);
            (sections.ByteStart, sections.ByteCount).Should().Be((start, own.Length * entry.ElementSize));
            start += sections.ByteCount;
        }

        sections.MoveNext().Should().BeFalse();
    }
}
