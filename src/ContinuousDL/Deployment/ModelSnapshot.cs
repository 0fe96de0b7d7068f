using ContinuousDL.Parameters;
using static TorchSharp.torch;

namespace ContinuousDL.Deployment;

/// <summary>A copy of a model's whole state at one sequence: where a replica starts.</summary>
/// <remarks>Immutable; kept in managed memory, independent of the model it was taken of.</remarks>
public sealed class ModelSnapshot
{
    private readonly byte[][] values;

    internal ModelSnapshot(ModelLayout layout, IReadOnlyList<TensorSlot> slots, Guid runId, long sequence)
    {
        Layout = layout;
        RunId = runId;
        Sequence = sequence;
        values = new byte[slots.Count][];
        for (var i = 0; i < slots.Count; i++)
        {
            var entry = slots[i].Entry;
            values[i] = GC.AllocateUninitializedArray<byte>(checked(entry.Length * entry.ElementSize));
            slots[i].ReadAll(values[i]);
            StateDigest += Parameters.StateDigest.Sum(entry, values[i]);
        }
    }

    /// <summary>Takes over values that were read from elsewhere, and computes their digest.</summary>
    /// <param name="layout">The model's tensors.</param>
    /// <param name="values">For each tensor all its values, in row-major order.</param>
    /// <param name="runId">The training run.</param>
    /// <param name="sequence">The sequence of the state.</param>
    internal ModelSnapshot(ModelLayout layout, byte[][] values, Guid runId, long sequence)
    {
        Layout = layout;
        RunId = runId;
        Sequence = sequence;
        this.values = values;
        for (var i = 0; i < values.Length; i++) StateDigest += Parameters.StateDigest.Sum(layout.Entries[i], values[i]);
    }

    /// <summary>The model's tensors and their coordinates.</summary>
    public ModelLayout Layout { get; }

    /// <summary>The training run that the state belongs to; <see cref="Guid.Empty"/> where it is not known, as of a module taken by itself.</summary>
    public Guid RunId { get; }

    /// <summary>The sequence of the state.</summary>
    public long Sequence { get; }

    /// <summary>The digest of the state.</summary>
    public ulong StateDigest { get; }

    /// <summary>Takes a snapshot of a module as it is, at sequence 0 of no run in particular: a replica that starts from it follows the first run that it is sent an update of.</summary>
    /// <param name="module">The module. It stays the caller's.</param>
    public static ModelSnapshot Of(nn.Module module)
    {
        var model = ModelTensors.Of(module);
        return new ModelSnapshot(model.Layout, model.Slots, Guid.Empty, 0);
    }

    /// <summary>The values of one tensor, in row-major order, as raw bytes of its dtype.</summary>
    /// <param name="entry">The index of the tensor in the layout.</param>
    public ReadOnlySpan<byte> Values(int entry) => values[entry];

    /// <summary>Makes a module's state the snapshot's.</summary>
    /// <param name="module">A module of the same architecture. It stays the caller's.</param>
    /// <exception cref="ModelMismatchException">Its architecture is another; the message names the first difference.</exception>
    public void CopyTo(nn.Module module) => CopyTo(ModelTensors.Of(module));

    internal void CopyTo(ModelTensors model)
    {
        if (Layout.FirstDifference(model.Layout) is { } difference)
        {
            throw new ModelMismatchException($"The snapshot is of a model of another architecture. {difference}");
        }

        for (var i = 0; i < values.Length; i++) model.Slots[i].WriteAll(values[i]);
    }
}
