using ContinuousDL.Parameters;

namespace ContinuousDL;

/// <summary>Takes back what a forward pass did to a model's buffers, when the step that it belongs to does not take place.</summary>
internal sealed class BufferGuard
{
    private readonly TensorSlot[] slots;
    private readonly TensorValues[] values;

    public BufferGuard(ModelTensors model)
    {
        slots = [.. model.Slots.Where(s => s.Entry.Kind == CoordinateKind.Buffer)];
        values = [.. slots.Select(s => TensorValues.Allocate(s.Entry))];
    }

    public void Save()
    {
        for (var i = 0; i < slots.Length; i++) slots[i].ReadAll(values[i]);
    }

    public void Restore()
    {
        for (var i = 0; i < slots.Length; i++) slots[i].WriteAll(values[i]);
    }
}
