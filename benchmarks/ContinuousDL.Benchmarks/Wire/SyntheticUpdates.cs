using System.Buffers;
using System.Runtime.InteropServices;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Wire;

/// <summary>A chain of updates of a model of n weights, each of which moves k uniformly drawn ones by a little more than a threshold.</summary>
internal sealed class SyntheticUpdates : IDisposable
{
    private const float Threshold = 1e-3f;
    private const double Spread = 0.01;

    private readonly List<ModelUpdate> updates = [];

    /// <param name="size">n.</param>
    /// <param name="density">k / n.</param>
    /// <param name="count">How many updates.</param>
    public SyntheticUpdates(int size, double density, int count)
    {
        var layout = ModelLayout.Of([new("weights", CoordinateKind.Parameter, DType.Float32, [size])]);
        State = new ModelState(new ModelArrays(layout));
        var random = new Random(1);
        var values = new float[size];
        for (var i = 0; i < size; i++) values[i] = (random.NextSingle() - 0.5f) * 0.1f;
        Start = Snapshot(layout, values, 1);
        State.Load(Start);
        var digest = Start.StateDigest;
        for (var u = 0; u < count; u++)
        {
            var drawn = new HashSet<int>();
            while (drawn.Count < density * size) drawn.Add(random.Next(size));
            int[] coordinates = [.. drawn.Order()];
            var (indices, after, before) = (ArrayPool<int>.Shared.Rent(coordinates.Length), Rent(coordinates.Length), Rent(coordinates.Length));
            coordinates.CopyTo(indices, 0);
            for (var j = 0; j < coordinates.Length; j++)
            {
                var old = values[coordinates[j]];
                var change = Threshold * (1 - (Spread * Math.Log(1 - random.NextDouble())));
                var value = (float)(old + (random.Next(2) == 0 ? change : -change));
                values[coordinates[j]] = value;
                var (oldBits, bits) = (BitConverter.SingleToUInt32Bits(old), BitConverter.SingleToUInt32Bits(value));
                Scalars.Store(before, j, sizeof(float), oldBits);
                Scalars.Store(after, j, sizeof(float), bits);
                digest += StateDigest.Change(coordinates[j], oldBits, bits);
            }

            var identity = new UpdateIdentity(Start.RunId, 1 + u, 2 + u, layout, digest);
            updates.Add(new ModelUpdate(identity, coordinates.Length, false, indices, after, before, sizeof(float) * coordinates.Length));
        }

        Messages = [.. updates.Select(new UpdateCodec().Encode)];
    }

    /// <summary>The updates.</summary>
    public IReadOnlyList<ModelUpdate> Updates => updates;

    /// <summary>The messages of the updates.</summary>
    public byte[][] Messages { get; }

    /// <summary>The state before the first update.</summary>
    public ModelSnapshot Start { get; }

    /// <summary>That state in tensors.</summary>
    public ModelState State { get; }

    /// <inheritdoc />
    public void Dispose()
    {
        foreach (var update in updates) update.Dispose();
        State.Dispose();
    }

    private static ModelSnapshot Snapshot(ModelLayout layout, float[] values, long sequence) =>
        new(layout, [MemoryMarshal.AsBytes(values.AsSpan()).ToArray()], new Guid("00112233-4455-6677-8899-aabbccddeeff"), sequence);

    private static byte[] Rent(int count) => ArrayPool<byte>.Shared.Rent(sizeof(float) * count);
}
