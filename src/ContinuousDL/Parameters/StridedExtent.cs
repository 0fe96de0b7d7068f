using System.Numerics;
using ContinuousDL.Memory;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>
/// The bytes that a tensor takes in memory: those of its first element, moved on by every sum of multiples of its strides. Tells
/// exactly whether two tensors share any, however their strides interleave.
/// </summary>
/// <remarks>
/// Whether they share one is whether a linear equation has a solution in bounded integers, which is hard for strides made up for the
/// purpose. A search that prunes by what is still within reach, and by what the greatest common divisor rules out, takes a few
/// steps for each dimension of the views that slicing, transposing and reshaping make. What it can't settle within
/// <see cref="MostSteps"/> counts as shared.
/// </remarks>
internal sealed class StridedExtent
{
    /// <summary>Far more than views of any use take, and done within milliseconds.</summary>
    private const int MostSteps = 100_000;

    private readonly (DeviceType Type, int Index) device;
    private readonly Int128 start, end;

    /// <summary>Stride in bytes and size, ascending by stride; the bytes of an element are the first.</summary>
    private readonly (Int128 Stride, Int128 Size)[] dimensions;

    /// <param name="tensor">The tensor, with elements. Stays the caller's.</param>
    /// <param name="elementSize">The size of an element in bytes.</param>
    public unsafe StridedExtent(Tensor tensor, int elementSize)
        : this((tensor.device_type, tensor.device_index), (nint)TensorMemory.AddressOf(tensor), elementSize, tensor.shape, tensor.stride())
    {
    }

    /// <param name="device">The device whose memory it is.</param>
    /// <param name="address">The address of the first element.</param>
    /// <param name="elementSize">The size of an element in bytes.</param>
    /// <param name="shape">The shape; no size is 0.</param>
    /// <param name="strides">The strides in elements, 0 or more.</param>
    internal StridedExtent((DeviceType Type, int Index) device, long address, int elementSize, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides)
    {
        this.device = device;
        var all = new List<(Int128 Stride, Int128 Size)>();
        for (var d = 0; d < shape.Length; d++)
        {
            if (shape[d] > 1) all.Add((Int128.CreateChecked(strides[d]) * elementSize, shape[d]));
        }

        all.Sort((a, b) => a.Stride.CompareTo(b.Stride));
        HasDistinctElements = AreDistinct(all);
        dimensions = Joined([(1, elementSize), .. all.Where(d => d.Stride > 0)]);
        start = address;
        end = address + Reach(dimensions) + 1;
    }

    /// <summary>Whether no two elements are in the same place, as they are in an expanded tensor.</summary>
    public bool HasDistinctElements { get; }

    /// <summary>The order of their first bytes, those of one device next to each other.</summary>
    public static int Compare(StridedExtent a, StridedExtent b) => (a.device, a.start).CompareTo((b.device, b.start));

    /// <summary>Whether another one, which starts at the same place or behind, starts only after the last byte of this.</summary>
    public bool EndsBefore(StridedExtent next) => device != next.device || end <= next.start;

    /// <summary>Whether there is a byte that both take.</summary>
    public bool Overlaps(StridedExtent other)
    {
        if (device != other.device || end <= other.start || other.end <= start) return false;

        // Σ sᵢ·aᵢ − Σ tⱼ·bⱼ = distance. Counted down from its size, each b enters with a plus as the others do.
        return HasSolution([.. dimensions, .. other.dimensions], other.start - start + Reach(other.dimensions));
    }

    /// <summary>Dimensions that together run through every multiple of the smaller stride are one.</summary>
    private static (Int128 Stride, Int128 Size)[] Joined(IEnumerable<(Int128 Stride, Int128 Size)> ascending)
    {
        var joined = new List<(Int128 Stride, Int128 Size)>();
        foreach (var (stride, size) in ascending)
        {
            if (joined.Count > 0 && joined[^1].Stride * joined[^1].Size == stride) joined[^1] = (joined[^1].Stride, joined[^1].Size * size);
            else joined.Add((stride, size));
        }

        return [.. joined];
    }

    /// <summary>How far the last byte is from the first.</summary>
    private static Int128 Reach(IEnumerable<(Int128 Stride, Int128 Size)> dimensions) =>
        dimensions.Aggregate(Int128.Zero, (sum, d) => sum + (d.Stride * (d.Size - 1)));

    private static bool AreDistinct(List<(Int128 Stride, Int128 Size)> ascending)
    {
        var below = Int128.Zero;
        var nested = true;
        foreach (var (stride, size) in ascending)
        {
            nested &= stride > below;
            below += stride * (size - 1);
        }

        return nested || !Enumerable.Range(0, ascending.Count).Any(d => MeetsItself(ascending, d));
    }

    /// <summary>
    /// Whether two elements that differ in dimension d, and in no later one, are in one place: Σ sᵢ·δᵢ = 0 with δ above 0 for d and
    /// of either sign for those before it.
    /// </summary>
    private static bool MeetsItself(List<(Int128 Stride, Int128 Size)> ascending, int d)
    {
        var (stride, size) = ascending[d];
        var before = ascending[..d];
        return HasSolution([.. before.Select(b => (b.Stride, (2 * b.Size) - 1)), (stride, size - 1)], Reach(before) - stride);
    }

    /// <summary>Whether Σ strideᵢ·xᵢ = target for some xᵢ from 0 to sizeᵢ − 1.</summary>
    private static bool HasSolution((Int128 Stride, Int128 Size)[] terms, Int128 target)
    {
        // Terms of one stride are one term; zero strides add nothing.
        (Int128 Stride, Int128 Most)[] unknowns =
        [
            .. terms.Where(t => t.Stride > 0 && t.Size > 1).GroupBy(t => t.Stride)
                .Select(g => (Stride: g.Key, Most: g.Aggregate(Int128.Zero, (sum, t) => sum + t.Size - 1))).OrderByDescending(u => u.Stride),
        ];
        var reach = new Int128[unknowns.Length + 1];
        var divisors = new Int128[unknowns.Length + 1];
        for (var i = unknowns.Length - 1; i >= 0; i--)
        {
            reach[i] = reach[i + 1] + (unknowns[i].Stride * unknowns[i].Most);
            divisors[i] = GreatestCommonDivisor(unknowns[i].Stride, divisors[i + 1]);
        }

        var steps = MostSteps;
        return Search(unknowns, reach, divisors, 0, target, ref steps);
    }

    private static bool Search((Int128 Stride, Int128 Most)[] unknowns, Int128[] reach, Int128[] divisors, int i, Int128 rest, ref int steps)
    {
        if (rest < 0 || rest > reach[i]) return false;
        if (rest == 0) return true;
        if (rest % divisors[i] != 0) return false;
        var (stride, most) = unknowns[i];
        var greatest = Int128.Min(most, rest / stride);
        var least = rest <= reach[i + 1] ? 0 : (rest - reach[i + 1] + stride - 1) / stride;
        for (var x = greatest; x >= least; x--)
        {
            if (--steps < 0 || Search(unknowns, reach, divisors, i + 1, rest - (x * stride), ref steps)) return true;
        }

        return false;
    }

    private static Int128 GreatestCommonDivisor(Int128 a, Int128 b)
    {
        while (b != 0) (a, b) = (b, a % b);
        return a;
    }
}
