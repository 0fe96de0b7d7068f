using System.IO.Hashing;
using System.Text;

namespace ContinuousDL.Replication.Models;

/// <summary>
/// A model as one flat sequence of named coordinates: the elements of all its parameters, then those of all its persistent
/// buffers, in the order in which the module lists them. Two models with the same layout can follow one another.
/// </summary>
/// <remarks>
/// A parameter that several layers share is listed once, under its first name. Immutable; independent of the tensors it was
/// read from.
/// </remarks>
public sealed class ModelLayout
{
    private readonly LayoutEntry[] entries;
    private readonly LayoutEntry[] runs;

    private ModelLayout(LayoutEntry[] entries)
    {
        this.entries = entries;
        runs = FindRuns(entries);
        Count = entries.Length == 0 ? 0 : entries[^1].End;
        SizeInBytes = entries.Sum(e => e.SizeInBytes);
        Fingerprint = XxHash128.HashToUInt128(Encoding.UTF8.GetBytes(Description));
    }

    /// <summary>The tensors, in the order of their coordinates.</summary>
    public IReadOnlyList<LayoutEntry> Entries => entries;

    /// <summary>The same as a span.</summary>
    public ReadOnlySpan<LayoutEntry> Tensors => entries;

    /// <summary>Tensors of one kind and dtype that follow one another, taken as one; those without elements are left out.</summary>
    public ReadOnlySpan<LayoutEntry> Runs => runs;

    /// <summary>The number of coordinates in all, buffers included. At most <see cref="int.MaxValue"/>.</summary>
    public int Count { get; }

    /// <summary>The size of all values in bytes: what sending the whole model takes.</summary>
    public long SizeInBytes { get; }

    /// <summary>A 128-bit hash of the names, kinds, dtypes and shapes: what an update names to say which architecture it is for.</summary>
    public UInt128 Fingerprint { get; }

    /// <summary>All of it as text, a line for each tensor: what the fingerprint and signatures are of.</summary>
    public string Description => string.Join('\n', entries.AsEnumerable());

    /// <summary>Makes the layout of a model with the given tensors.</summary>
    /// <param name="tensors">The tensors: parameters, then buffers, each in the order in which the model lists them.</param>
    /// <exception cref="NotSupportedException">There are more than <see cref="int.MaxValue"/> coordinates, or a dtype with elements of more than 8 bytes.</exception>
    public static ModelLayout Of(IEnumerable<TensorDescription> tensors)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        var entries = new List<LayoutEntry>();
        var offset = 0L;
        foreach (var (name, kind, dtype, shape) in tensors)
        {
            var length = LengthOf(shape);
            if (length > int.MaxValue - offset)
            {
                throw new NotSupportedException($"The model has more than {int.MaxValue:N0} coordinates at '{name}'; that is the most there can be.");
            }

            entries.Add(new LayoutEntry(name, kind, dtype, shape, (int)offset, (int)length));
            offset += length;
        }

        return new ModelLayout([.. entries]);
    }

    /// <summary>Says where another layout first differs from this one.</summary>
    /// <param name="other">The layout to compare with.</param>
    /// <returns>A sentence, or null when they are the same.</returns>
    public string? FirstDifference(ModelLayout other)
    {
        ArgumentNullException.ThrowIfNull(other);
        for (var i = 0; i < Math.Max(entries.Length, other.entries.Length); i++)
        {
            var (a, b) = (entries.ElementAtOrDefault(i)?.ToString(), other.entries.ElementAtOrDefault(i)?.ToString());
            if (a != b) return $"Tensor {i} is {a ?? "missing"} in one and {b ?? "missing"} in the other.";
        }

        return null;
    }

    /// <summary>The index of the tensor that has a coordinate.</summary>
    public int EntryOf(int coordinate)
    {
        var (low, high) = (0, entries.Length - 1);
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            if (entries[middle].Offset <= coordinate) low = middle;
            else high = middle - 1;
        }

        // Tensors without elements share their offset with the next one, which is the one found.
        return low;
    }

    private static LayoutEntry[] FindRuns(LayoutEntry[] entries)
    {
        var runs = new List<LayoutEntry>();
        foreach (var entry in entries)
        {
            if (entry.Length == 0) continue;
            var joins = runs.Count > 0 && (runs[^1].Kind, runs[^1].DType) == (entry.Kind, entry.DType);
            var (name, offset) = joins ? (runs[^1].Name, runs[^1].Offset) : (entry.Name, entry.Offset);
            if (joins) runs.RemoveAt(runs.Count - 1);
            runs.Add(new LayoutEntry(name, entry.Kind, entry.DType, [entry.End - offset], offset, entry.End - offset));
        }

        return [.. runs];
    }

    /// <summary>The number of elements; the largest number there is where that is more.</summary>
    private static long LengthOf(long[] shape)
    {
        var length = UInt128.One;
        foreach (var size in shape)
        {
            if (size == 0) return 0;
            length = length > long.MaxValue ? length : length * (ulong)size;
        }

        return length > long.MaxValue ? long.MaxValue : (long)length;
    }
}
