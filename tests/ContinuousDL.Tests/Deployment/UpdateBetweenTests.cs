using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests.UpdateLogs;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Deployment;

/// <summary>The update between two states changes exactly what differs, to the bit.</summary>
public class UpdateBetweenTests
{
    private static readonly Guid Run = Guid.NewGuid();

    private static readonly ModelLayout Layout = ModelLayout.Of(
    [
        new("a", CoordinateKind.Parameter, DType.Float32, [3, 3]),
        new("none", CoordinateKind.Parameter, DType.Float32, [0]),
        new("b", CoordinateKind.Parameter, DType.Float16, [5]),
        new("c", CoordinateKind.Parameter, DType.Bool, [4]),
        new("d", CoordinateKind.Buffer, DType.Int64, []),
    ]);

    [Test]
    public void Between_lists_the_coordinates_that_differ_with_old_and_new_values_and_leads_to_the_state()
    {
        for (var seed = 0; seed < 200; seed++)
        {
            var random = new Random(seed);
            var from = Values(random);
            var to = from.Select(v => v.ToArray()).ToArray();
            var expected = new SortedSet<int>();
            for (var i = random.Next(25); i > 0; i--)
            {
                var coordinate = random.Next(Layout.Count);
                var entry = Layout.Entries[Layout.EntryOf(coordinate)];
                to[Layout.EntryOf(coordinate)][((coordinate - entry.Offset) * entry.ElementSize) + random.Next(entry.ElementSize)] ^= (byte)(1 << random.Next(8));
            }

            for (var i = 0; i < Layout.Count; i++)
            {
                if (Bits(from, i) != Bits(to, i)) expected.Add(i);
            }

            var (before, after) = (new ModelSnapshot(Layout, from, Run, 7), new ModelSnapshot(Layout, to, Guid.NewGuid(), 3));
            using var update = ModelUpdate.Between(before, after, 8);
            (update.RunId, update.BaseSequence, update.Sequence, update.StateDigest).Should().Be((Run, 7, 8, after.StateDigest));
            update.Coordinates.ToArray().Should().Equal(expected);
            update.PreviousValues.Length.Should().Be(update.Values.Length);
            using var tensors = new ModelArrays(Layout);
            var state = new ModelState(tensors);
            state.Load(before);
            state.Write(update, state.DigestAfter(update));
            PublishedStates.ShouldBeTheSame(state.CreateSnapshot(), new ModelSnapshot(Layout, to, Run, 8));
        }
    }

    [Test]
    public void Between_states_of_different_architectures_or_back_in_the_sequence_is_refused()
    {
        var state = new ModelSnapshot(Layout, Values(new Random(1)), Run, 7);
        using var model = TestModels.Mlp();
        FluentActions.Invoking(() => ModelUpdate.Between(state, ModelSnapshot.Of(model), 8)).Should().Throw<ModelMismatchException>();
        FluentActions.Invoking(() => ModelUpdate.Between(state, state, 7)).Should().Throw<ArgumentOutOfRangeException>();
    }

    private static byte[][] Values(Random random)
    {
        var values = Layout.Entries.Select(e => new byte[e.Length * e.ElementSize]).ToArray();
        foreach (var tensor in values) random.NextBytes(tensor);
        return values;
    }

    private static ulong Bits(byte[][] values, int coordinate)
    {
        var i = Layout.EntryOf(coordinate);
        return Scalars.Load(values[i], coordinate - Layout.Entries[i].Offset, Layout.Entries[i].ElementSize);
    }
}
