using System.Runtime.InteropServices;
using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Residuals;

/// <summary>
/// Keeps nothing: what is not sent is dropped. For compressors that are right on average, and for comparison.
/// </summary>
/// <remarks>
/// Takes 4 bytes of native memory for each coordinate, which <see cref="Dispose"/> frees: the gradient's parts have to become
/// one vector. A coordinate that was not accumulated in a step reads as zero in it.
/// </remarks>
public sealed class NoResidualMemory : IResidualMemory
{
    private readonly ResidualVector gradient = new(typeof(NoResidualMemory));

    // What was accumulated in this step. Parts that come in the order of their coordinates make up one.
    private readonly List<(int Start, int End)> parts = [];

    /// <inheritdoc/>
    public ReadOnlySpan<float> Accumulated
    {
        get
        {
            var all = gradient.Span;
            ClearBetweenParts(all);
            return all;
        }
    }

    /// <inheritdoc/>
    public bool KeepsResidual => false;

    string IStateful.StateKind => FormattableString.Invariant($"no residual, {gradient.Length} coordinates");

    /// <inheritdoc/>
    public void Attach(VectorLayout layout) => gradient.Attach(layout);

    /// <inheritdoc/>
    public ReadOnlySpan<float> Accumulate(ReadOnlySpan<float> gradient, int offset)
    {
        var part = this.gradient.Part(offset, gradient.Length);
        gradient.CopyTo(part);
        GC.KeepAlive(this);
        if (parts.Count > 0 && parts[^1].End == offset) parts[^1] = (parts[^1].Start, offset + gradient.Length);
        else parts.Add((offset, offset + gradient.Length));
        return part;
    }

    /// <inheritdoc/>
    public void Release(CompressedGradient sent)
    {
        gradient.CheckSent(sent);
        parts.Clear();
    }

    /// <inheritdoc/>
    public void Reset() => parts.Clear();

    void IStateful.WriteState(BinaryWriter writer)
    {
    }

    Action IStateful.ReadState(BinaryReader reader, int version) => parts.Clear;

    /// <summary>Frees the native memory. Doing so twice is harmless; anything else afterwards throws.</summary>
    public void Dispose() => gradient.Dispose();

    /// <summary>What lies between the parts is left from earlier steps. A step that accumulates everything has nothing to clear.</summary>
    private void ClearBetweenParts(Span<float> all)
    {
        CollectionsMarshal.AsSpan(parts).Sort(static (a, b) => a.Start.CompareTo(b.Start));
        var end = 0;
        foreach (var part in parts)
        {
            all[end..Math.Max(end, part.Start)].Clear();
            end = Math.Max(end, part.End);
        }

        all[end..].Clear();
    }
}
