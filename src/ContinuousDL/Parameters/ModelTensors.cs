using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>A model's tensors, each with its coordinates: the state of a model, readable and writable by coordinate.</summary>
internal sealed class ModelTensors : IDisposable
{
    private readonly bool own;

    private ModelTensors(ModelLayout layout, Tensor[][] handles, bool own)
    {
        Layout = layout;
        Handles = handles;
        Slots = [.. layout.Entries.Zip(handles, (entry, same) => TensorSlot.Of(entry, same[0]))];
        this.own = own;
    }

    public ModelLayout Layout { get; }

    public TensorSlot[] Slots { get; }

    /// <summary>For each slot all handles of its tensor, the slot's own first: tied weights may have several.</summary>
    public IReadOnlyList<IReadOnlyList<Tensor>> Handles { get; }

    /// <summary>The tensors of a module. They stay the module's own.</summary>
    /// <exception cref="ArgumentException">Two tensors of the module overlap in memory without being the same, or one has several elements in one place.</exception>
    public static ModelTensors Of(nn.Module module)
    {
        var layout = ModelLayout.Of(module, out var handles);
        var tensors = new ModelTensors(layout, handles, own: false);
        ThrowIfOverlapping(tensors.Slots);
        return tensors;
    }

    /// <summary>Tensors without a module, for a model of which only the layout is known: all zero, in main memory, disposed with the result.</summary>
    public static ModelTensors Allocate(ModelLayout layout)
    {
        using var guard = no_grad();
        return new ModelTensors(layout, [.. layout.Entries.Select(e => new[] { zeros([.. e.Shape], dtype: e.DType).DetachFromDisposeScope() })], own: true);
    }

    /// <summary>Disposes the tensors where they are not a module's.</summary>
    public void Dispose()
    {
        if (!own) return;
        foreach (var slot in Slots) slot.Tensor.Dispose();
    }

    /// <summary>Reads single coordinates.</summary>
    /// <param name="coordinates">Coordinates, ascending.</param>
    /// <param name="values">Receives their values, each as the raw bytes of its tensor's dtype, packed.</param>
    public void Read(ReadOnlySpan<int> coordinates, Span<byte> values)
    {
        var sections = new CoordinateSections(coordinates, Layout.Tensors);
        while (sections.MoveNext()) Slots[sections.Index].Read(sections.Coordinates, values.Slice((int)sections.ByteStart, sections.ByteCount));
    }

    /// <summary>Writes single coordinates.</summary>
    /// <param name="coordinates">Coordinates, ascending.</param>
    /// <param name="values">Their values, packed.</param>
    public void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values)
    {
        var sections = new CoordinateSections(coordinates, Layout.Tensors);
        while (sections.MoveNext()) Slots[sections.Index].Write(sections.Coordinates, values.Slice((int)sections.ByteStart, sections.ByteCount));
    }

    /// <summary>The digest of the state, computed from every value.</summary>
    public ulong ComputeDigest()
    {
        var digest = 0ul;
        foreach (var slot in Slots) digest += slot.ComputeDigest();
        return digest;
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
