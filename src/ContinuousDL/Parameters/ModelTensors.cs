using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>A model's tensors, each with its coordinates: the state of a model, readable and writable by coordinate.</summary>
internal sealed class ModelTensors : IDisposable
{
    private readonly bool own;

    private ModelTensors(ModelLayout layout, TensorSlot[] slots, bool own)
    {
        Layout = layout;
        Slots = slots;
        this.own = own;
    }

    public ModelLayout Layout { get; }

    public TensorSlot[] Slots { get; }

    /// <summary>The tensors of a module. They stay the module's own.</summary>
    /// <exception cref="ArgumentException">Two tensors of the module overlap in memory without being the same.</exception>
    public static ModelTensors Of(nn.Module module)
    {
        var layout = ModelLayout.Of(module, out var tensors);
        var slots = layout.Entries.Zip(tensors, TensorSlot.Of).ToArray();
        ThrowIfOverlapping(slots);
        return new ModelTensors(layout, slots, own: false);
    }

    /// <summary>Tensors without a module, for a model of which only the layout is known: all zero, in main memory, disposed with the result.</summary>
    public static ModelTensors Allocate(ModelLayout layout)
    {
        using var guard = no_grad();
        return new ModelTensors(layout, [.. layout.Entries.Select(e => TensorSlot.Of(e, zeros([.. e.Shape], dtype: e.DType).DetachFromDisposeScope()))], own: true);
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
    /// Two views that share some of their elements would be two coordinates of one value, and a write to one would change
    /// the other unseen.
    /// </summary>
    private static unsafe void ThrowIfOverlapping(TensorSlot[] slots)
    {
        var ranges = slots.OfType<CpuTensorSlot>().Where(s => s.Entry.Length > 0)
            .Select(s => (s.Entry, Start: (nint)s.Address(), End: (nint)s.Address() + (Extent(s.Tensor) * s.Entry.ElementSize)))
            .OrderBy(r => r.Start).ToArray();
        for (var i = 1; i < ranges.Length; i++)
        {
            var (previous, current) = (ranges[i - 1], ranges[i]);
            if (current.Start < previous.End)
            {
                throw new ArgumentException(
                    $"The tensors '{previous.Entry.Name}' and '{current.Entry.Name}' overlap in memory without being the same. "
                    + "Share a whole parameter between layers, or give each layer its own.");
            }
        }
    }

    private static nint Extent(Tensor tensor)
    {
        var strides = tensor.stride();
        var extent = 1L;
        for (var d = 0; d < strides.Length; d++) extent += (tensor.shape[d] - 1) * strides[d];
        return (nint)extent;
    }
}
