using ContinuousDL.Compression;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Vectors;

namespace ContinuousDL.Deployment;

/// <summary>
/// Makes the changes of what the optimizer does not train, buffers and parameters that a forward pass moves, part of the
/// deployed model, as the options say.
/// </summary>
internal sealed class BufferDeployer
{
    /// <summary>Keeps the change of a value near zero from counting as infinitely large.</summary>
    private const double SmallValue = 1e-3;

    private readonly BufferDeploymentOptions options;
    private readonly List<Pair> pairs = [];
    private readonly TopKCompressor? largest;
    private readonly CompressedGradient selected = new();
    private VectorLayout layout = new([]);
    private float[] scores = [];

    public BufferDeployer(BufferDeploymentOptions options)
    {
        this.options = options;
        largest = options.Mode == BufferDeploymentMode.LargestChange ? TopKCompressor.OfCount(options.Count) : null;
    }

    /// <summary>Whether what is deployed is what is trained between steps.</summary>
    public bool InStep => options.Mode == BufferDeploymentMode.EveryUpdate || pairs.Count == 0;

    /// <summary>Adds tensors, as training leaves them and as they are deployed. They stay their owners'.</summary>
    public void Add(IEnumerable<(TensorSlot Trained, TensorSlot Deployed)> tensors)
    {
        pairs.AddRange(tensors.Select(t => new Pair(t.Trained, t.Deployed)));
        pairs.Sort(static (a, b) => a.Offset.CompareTo(b.Offset));
        layout = new VectorLayout([.. pairs.Select(p => p.Length)]);
        if (largest is not null) scores = new float[layout.Length];
    }

    /// <summary>Deploys what is due.</summary>
    /// <param name="sequence">The sequence of the update.</param>
    /// <param name="changes">Records the changes.</param>
    /// <returns>What the digest changes by.</returns>
    public ulong Deploy(long sequence, UpdateBuilder changes)
    {
        if (pairs.Count == 0 || (options.Mode == BufferDeploymentMode.Periodic && sequence % options.Interval != 0)) return 0;
        foreach (var pair in pairs) pair.Read();
        if (largest is not null) SelectLargest();

        var digest = 0ul;
        for (var p = 0; p < pairs.Count; p++)
        {
            digest += largest is null
                ? pairs[p].DeployAll(changes)
                : pairs[p].Deploy(changes, selected.Indices, layout.Offsets[p]);
        }

        return digest;
    }

    private void SelectLargest()
    {
        for (var p = 0; p < pairs.Count; p++)
        {
            for (var i = 0; i < pairs[p].Length; i++) scores[layout.Offsets[p] + i] = pairs[p].RelativeChange(i);
        }

        largest!.Compress(scores, layout, selected);
    }

    /// <summary>A tensor as training left it and as it is deployed.</summary>
    private sealed class Pair(TensorSlot trained, TensorSlot deployed)
    {
        private readonly LayoutEntry entry = trained.Entry;
        private readonly TensorValues current = TensorValues.Allocate(trained.Entry);
        private readonly TensorValues previous = TensorValues.Allocate(trained.Entry);
        private bool isChanged;

        public int Offset => entry.Offset;

        public int Length => entry.Length;

        public void Read()
        {
            isChanged = !trained.HasSameValues(deployed);
            if (!isChanged) return;
            trained.ReadAll(current);
            deployed.ReadAll(previous);
        }

        public float RelativeChange(int i)
        {
            if (!isChanged) return 0;
            var (now, before) = (Bits(current, i), Bits(previous, i));
            if (now == before) return 0;
            var (a, b) = (Scalars.ToDouble(entry.DType, now), Scalars.ToDouble(entry.DType, before));
            var change = Math.Abs(a - b) / (Math.Abs(b) + SmallValue);

            // A change that can't be measured (NaN, infinity, the sign of zero) still counts as one.
            return double.IsFinite(change) ? (float)Math.Clamp(change, float.Epsilon, float.MaxValue) : float.MaxValue;
        }

        public ulong DeployAll(UpdateBuilder changes)
        {
            if (!isChanged) return 0;
            changes.Reserve(Length, entry.ElementSize);
            var digest = 0ul;
            for (var i = 0; i < Length; i++) digest += Record(changes, i);
            deployed.WriteAll(current);
            return digest;
        }

        public ulong Deploy(UpdateBuilder changes, ReadOnlySpan<int> selectedScores, int offset)
        {
            var start = CoordinateSearch.CountBelow(selectedScores, offset);
            var own = selectedScores[start..];
            own = own[..CoordinateSearch.CountBelow(own, offset + Length)];
            if (!isChanged || own.IsEmpty) return 0;
            changes.Reserve(own.Length, entry.ElementSize);
            var digest = 0ul;
            foreach (var score in own)
            {
                var i = score - offset;
                digest += Record(changes, i);
                previous.Store(i, entry.ElementSize, Bits(current, i));
            }

            deployed.WriteAll(previous);
            return digest;
        }

        private ulong Record(UpdateBuilder changes, int i)
        {
            var (now, before) = (Bits(current, i), Bits(previous, i));
            if (now == before) return 0;
            changes.Record(entry.Offset + i, before, now, entry.ElementSize);
            return StateDigest.Change(entry.Offset + i, before, now);
        }

        private ulong Bits(TensorValues values, int i) => values.Load(i, entry.ElementSize);
    }
}
