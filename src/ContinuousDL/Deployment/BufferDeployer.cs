using ContinuousDL.Compression;
using ContinuousDL.Parameters;

namespace ContinuousDL.Deployment;

/// <summary>Makes the changes of the trained model's buffers part of the deployed model, as the options say.</summary>
internal sealed class BufferDeployer
{
    /// <summary>Keeps the change of a value near zero from counting as infinitely large.</summary>
    private const double SmallValue = 1e-3;

    private readonly BufferDeploymentOptions options;
    private readonly Pair[] pairs;
    private readonly VectorLayout layout;
    private readonly TopKCompressor? largest;
    private readonly CompressedGradient selected = new();
    private readonly float[] scores;

    public BufferDeployer(BufferDeploymentOptions options, IReadOnlyList<TensorSlot> trained, IReadOnlyList<TensorSlot> deployed)
    {
        this.options = options;
        pairs = [.. Enumerable.Range(0, trained.Count).Where(i => trained[i].Entry.Kind == CoordinateKind.Buffer).Select(i => new Pair(trained[i], deployed[i]))];
        layout = new VectorLayout([.. pairs.Select(p => p.Length)]);
        scores = options.Mode == BufferDeploymentMode.LargestChange ? new float[layout.Length] : [];
        largest = options.Mode == BufferDeploymentMode.LargestChange ? TopKCompressor.OfCount(options.Count) : null;
    }

    /// <summary>Whether the deployed buffers are the trained ones between steps.</summary>
    public bool InStep => options.Mode == BufferDeploymentMode.EveryUpdate || pairs.Length == 0;

    /// <summary>Deploys what is due.</summary>
    /// <param name="sequence">The sequence of the update.</param>
    /// <param name="changes">Records the changes.</param>
    /// <returns>What the digest changes by.</returns>
    public ulong Deploy(long sequence, UpdateBuilder changes)
    {
        if (pairs.Length == 0 || (options.Mode == BufferDeploymentMode.Periodic && sequence % options.Interval != 0)) return 0;
        foreach (var pair in pairs) pair.Read();
        if (largest is not null) SelectLargest();

        var digest = 0ul;
        for (var p = 0; p < pairs.Length; p++)
        {
            digest += largest is null
                ? pairs[p].DeployAll(changes)
                : pairs[p].Deploy(changes, selected.Indices, layout.Offsets[p]);
        }

        return digest;
    }

    private void SelectLargest()
    {
        for (var p = 0; p < pairs.Length; p++)
        {
            for (var i = 0; i < pairs[p].Length; i++) scores[layout.Offsets[p] + i] = pairs[p].RelativeChange(i);
        }

        largest!.Compress(scores, layout, selected);
    }

    /// <summary>A buffer as training left it and as it is deployed.</summary>
    private sealed class Pair(TensorSlot trained, TensorSlot deployed)
    {
        private readonly LayoutEntry entry = trained.Entry;
        private readonly TensorValues current = TensorValues.Allocate(trained.Entry);
        private readonly TensorValues previous = TensorValues.Allocate(trained.Entry);

        public int Length => entry.Length;

        public void Read()
        {
            trained.ReadAll(current);
            deployed.ReadAll(previous);
        }

        public float RelativeChange(int i)
        {
            var (now, before) = (Bits(current, i), Bits(previous, i));
            if (now == before) return 0;
            var (a, b) = (Scalars.ToDouble(entry.DType, now), Scalars.ToDouble(entry.DType, before));
            var change = Math.Abs(a - b) / (Math.Abs(b) + SmallValue);

            // A change that can't be measured (NaN, infinity, the sign of zero) still counts as one.
            return double.IsFinite(change) ? (float)Math.Clamp(change, float.Epsilon, float.MaxValue) : float.MaxValue;
        }

        public ulong DeployAll(UpdateBuilder changes)
        {
            if (current.SequenceEqual(previous)) return 0;
            changes.Reserve(Length, entry.ElementSize);
            var digest = 0ul;
            for (var i = 0; i < Length; i++) digest += Record(changes, i);
            deployed.WriteAll(current);
            return digest;
        }

        public ulong Deploy(UpdateBuilder changes, ReadOnlySpan<int> selectedScores, int offset)
        {
            var start = CoordinateRange.CountBelow(selectedScores, offset);
            var own = selectedScores[start..];
            own = own[..CoordinateRange.CountBelow(own, offset + Length)];
            if (own.IsEmpty) return 0;
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
