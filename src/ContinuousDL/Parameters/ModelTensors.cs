using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>A module's tensors, each with its coordinates: the state of a model, readable and writable by coordinate, by way of main memory.</summary>
public sealed class ModelTensors : ITensorAccess
{
    private readonly TensorSlot[] slots;

    /// <summary>Puts tensors together.</summary>
    /// <param name="layout">What they are.</param>
    /// <param name="slots">The tensors, in the order of the layout. They stay their owners'.</param>
    internal ModelTensors(ModelLayout layout, TensorSlot[] slots)
    {
        Layout = layout;
        this.slots = slots;
        Handles = [.. slots.Select(s => new[] { s.Tensor })];
    }

    private ModelTensors(ModelLayout layout, Tensor[][] handles)
    {
        Layout = layout;
        Handles = handles;
        slots = [.. layout.Entries.Zip(handles, (entry, same) => TensorSlot.Of(entry, same[0]))];
    }

    /// <inheritdoc/>
    public ModelLayout Layout { get; }

    /// <summary>The tensors, in the order of the layout.</summary>
    public IReadOnlyList<TensorSlot> Slots => slots;

    /// <summary>For each slot all handles of its tensor, the slot's own first: tied weights may have several.</summary>
    public IReadOnlyList<IReadOnlyList<Tensor>> Handles { get; }

    /// <summary>The tensors of a module. They stay the module's own.</summary>
    /// <exception cref="ArgumentException">Two tensors of the module overlap in memory without being the same, or one has several elements in one place.</exception>
    public static ModelTensors Of(nn.Module module)
    {
        var (layout, handles) = ModuleReader.Read(module);
        var tensors = new ModelTensors(layout, handles);
        ThrowIfOverlapping(tensors.slots);
        return tensors;
    }

    /// <inheritdoc/>
    public void Read(ReadOnlySpan<int> coordinates, Span<byte> values)
    {
        var sections = new CoordinateSections(coordinates, Layout.Tensors);
        while (sections.MoveNext()) slots[sections.Index].Read(sections.Coordinates, values.Slice((int)sections.ByteStart, sections.ByteCount));
    }

    /// <inheritdoc/>
    public void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values)
    {
        var sections = new CoordinateSections(coordinates, Layout.Tensors);
        while (sections.MoveNext()) slots[sections.Index].Write(sections.Coordinates, values.Slice((int)sections.ByteStart, sections.ByteCount));
    }

    /// <inheritdoc/>
    public void ReadRange(int tensor, int start, Span<byte> values) => slots[tensor].ReadRange(start, values);

    /// <inheritdoc/>
    public void WriteRange(int tensor, int start, ReadOnlySpan<byte> values) => slots[tensor].WriteRange(start, values);

    /// <inheritdoc/>
    public ulong ComputeDigest()
    {
        var digest = 0ul;
        foreach (var slot in slots) digest += slot.ComputeDigest();
        return digest;
    }

    /// <inheritdoc/>
    public void CopyFrom(ITensorAccess source)
    {
        ArgumentNullException.ThrowIfNull(source);
        if (source is not ModelTensors other) throw new ArgumentException("Only another module's tensors can be taken over whole.", nameof(source));
        for (var i = 0; i < slots.Length; i++) slots[i].CopyFrom(other.slots[i]);
    }

    /// <summary>The index of a tensor in the layout; −1 where it is none of the model's.</summary>
    internal int IndexOf(TensorSlot slot) => Array.IndexOf(slots, slot);

    /// <summary>Writes all values to a stream, in the order of the layout.</summary>
    internal void Save(BinaryWriter writer)
    {
        foreach (var slot in slots) slot.Save(writer);
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="EndOfStreamException">It is cut short.</exception>
    internal void Load(BinaryReader reader)
    {
        foreach (var slot in slots) slot.Load(reader);
    }

    /// <summary>Nothing is kept; the tensors stay the module's.</summary>
    public void Dispose()
    {
    }

    /// <summary>
    /// Elements that share their memory would be two coordinates of one value, and a write to one would change the other unseen.
    /// </summary>
    private static void ThrowIfOverlapping(TensorSlot[] slots)
    {
        var extents = slots.Where(s => s.Entry.Length > 0).Select(s => (s.Entry, Extent: new StridedExtent(s.Tensor, s.Entry.ElementSize))).ToList();
        if (extents.Find(e => !e.Extent.HasDistinctElements).Entry is { } entry)
        {
            throw new ArgumentException(
                $"The tensor '{entry.Name}' has several elements in one place in memory, as expanded tensors have. Give it memory for each element: a clone() of it.");
        }

        extents.Sort((a, b) => StridedExtent.Compare(a.Extent, b.Extent));
        for (var i = 0; i < extents.Count; i++)
        {
            for (var j = i + 1; j < extents.Count && !extents[i].Extent.EndsBefore(extents[j].Extent); j++)
            {
                if (extents[i].Extent.Overlaps(extents[j].Extent)) throw Overlapping(extents[i].Entry, extents[j].Entry);
            }
        }
    }

    private static ArgumentException Overlapping(LayoutEntry a, LayoutEntry b) => new(
        $"The tensors '{(a.Offset < b.Offset ? a : b).Name}' and '{(a.Offset < b.Offset ? b : a).Name}' overlap in memory without being the same. "
        + "Share a whole parameter between layers, or give each layer its own.");
}
