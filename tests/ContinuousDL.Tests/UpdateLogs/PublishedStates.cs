using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.UpdateLogs;

/// <summary>What a trainer publishes, without the training: a run of states, each a few random changes from the one before.</summary>
internal sealed class PublishedStates
{
    private readonly Random random;

    public PublishedStates(int seed, ModelLayout? layout = null, long sequence = 0)
    {
        random = new Random(seed);
        var bytes = new byte[16];
        random.NextBytes(bytes);
        RunId = new Guid(bytes);
        layout ??= ModelLayout.Of(
        [
            new("weight", CoordinateKind.Parameter, DType.Float32, [20, 30]),
            new("half", CoordinateKind.Parameter, DType.BFloat16, [40]),
            new("empty", CoordinateKind.Parameter, DType.Float32, [0]),
            new("count", CoordinateKind.Buffer, DType.Int64, []),
        ]);
        var values = layout.Entries.Select(e => new byte[e.Length * e.ElementSize]).ToArray();
        foreach (var tensor in values) random.NextBytes(tensor);
        Newest = new ModelSnapshot(layout, values, RunId, sequence);
        States[sequence] = Newest;
    }

    public Guid RunId { get; }

    public ModelSnapshot Newest { get; private set; }

    /// <summary>All states so far.</summary>
    public Dictionary<long, ModelSnapshot> States { get; } = [];

    /// <summary>Changes some coordinates.</summary>
    public ModelUpdate Next(int coordinates = 5)
    {
        var layout = Newest.Layout;
        var values = layout.Entries.Select((_, i) => Newest.Values(i).ToArray()).ToArray();
        for (var k = 0; k < coordinates; k++)
        {
            var entry = layout.Entries.First(e => e.Length > 0);
            if (random.Next(3) == 0) entry = layout.Entries.Where(e => e.Length > 0).ElementAt(random.Next(layout.Entries.Count(e => e.Length > 0)));
            Scalars.Store(values[layout.Entries.ToList().IndexOf(entry)], random.Next(entry.Length), entry.ElementSize, (ulong)random.NextInt64());
        }

        return Take(new ModelSnapshot(layout, values, RunId, Newest.Sequence + 1));
    }

    /// <summary>The update to another state, which becomes the newest.</summary>
    public ModelUpdate Take(ModelSnapshot next)
    {
        var update = ModelUpdate.Between(Newest, next, next.Sequence);
        Newest = next;
        States[next.Sequence] = next;
        return update;
    }

    public static void ShouldBeTheSame(ModelSnapshot actual, ModelSnapshot expected)
    {
        (actual.RunId, actual.Sequence, actual.StateDigest).Should().Be((expected.RunId, expected.Sequence, expected.StateDigest));
        for (var i = 0; i < expected.Layout.Entries.Count; i++) actual.Values(i).SequenceEqual(expected.Values(i)).Should().BeTrue();
    }
}
