using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Benchmarks;

/// <summary>Updates of a model as a trainer would publish them: at each step the same number of float32 coordinates moves by a little, buffers stay.</summary>
internal sealed class UpdateStream
{
    private readonly Random random = new(1);
    private readonly ModelLayout layout;
    private readonly byte[][] values;
    private readonly LayoutEntry[] parameters;
    private readonly double density;
    private readonly UpdateBuilder builder = new();
    private readonly Guid runId = Guid.NewGuid();
    private ulong digest;

    public UpdateStream(string model, double density)
    {
        this.density = density;
        using var module = BenchmarkModel.Named(model).Create();
        var start = ModelSnapshot.Of(module);
        layout = start.Layout;
        values = [.. layout.Entries.Select((_, i) => start.Values(i).ToArray())];
        parameters = [.. layout.Entries.Where(e => e.Kind == CoordinateKind.Parameter)];
        Start = new ModelSnapshot(layout, values, runId, 0);
        digest = Start.StateDigest;
    }

    /// <summary>The state before the first update.</summary>
    public ModelSnapshot Start { get; }

    public long Sequence { get; private set; }

    /// <summary>The next update. The caller owns it.</summary>
    public ModelUpdate Next()
    {
        for (var t = 0; t < parameters.Length; t++)
        {
            var entry = parameters[t];
            var chosen = new SortedSet<int>();
            var count = (int)((entry.Length * density) + random.NextDouble());
            while (chosen.Count < count) chosen.Add(random.Next(entry.Length));
            builder.Reserve(count, entry.ElementSize);
            foreach (var j in chosen)
            {
                var old = (uint)Scalars.Load(values[t], j, entry.ElementSize);
                var moved = BitConverter.SingleToUInt32Bits(BitConverter.UInt32BitsToSingle(old) + (float)((random.NextDouble() - 0.5) * 2e-3));
                Scalars.Store(values[t], j, entry.ElementSize, moved);
                digest += StateDigest.Change(entry.Offset + j, old, moved);
                builder.Record(entry.Offset + j, old, moved, entry.ElementSize);
            }
        }

        Sequence++;
        return builder.Build(new UpdateIdentity(runId, Sequence - 1, Sequence, layout, digest));
    }
}
