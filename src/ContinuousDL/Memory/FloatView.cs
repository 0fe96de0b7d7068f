using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Memory;

/// <summary>
/// A tensor's elements as float32 in row-major order: its own memory where it is contiguous float32 on the CPU, otherwise a
/// copy that is written back on request.
/// </summary>
internal readonly unsafe struct FloatView : IDisposable
{
    private readonly Tensor tensor;
    private readonly Tensor? copy;
    private readonly float* start;
    private readonly int length;

    private FloatView(Tensor tensor, Tensor? copy)
    {
        this.tensor = tensor;
        this.copy = copy;
        start = (float*)TensorMemory.AddressOf(copy ?? tensor);
        length = checked((int)tensor.numel());
    }

    public Span<float> Span => new(start, length);

    /// <param name="tensor">A tensor of a floating-point dtype, on any device; dense or sparse. Stays the caller's.</param>
    public static FloatView Of(Tensor tensor)
    {
        if (tensor.dtype == ScalarType.Float32 && tensor.device_type == DeviceType.CPU && !tensor.is_sparse && tensor.is_contiguous())
        {
            return new FloatView(tensor, null);
        }

        using var guard = no_grad();
        using var scope = NewDisposeScope();
        var dense = tensor.detach();
        if (dense.is_sparse) dense = dense.to_dense();
        return new FloatView(tensor, dense.cpu().to(ScalarType.Float32).contiguous().clone().MoveToOuterDisposeScope().DetachFromDisposeScope());
    }

    /// <summary>Whether the span is the tensor's own memory.</summary>
    public bool IsDirect => copy is null;

    /// <summary>Adds what the view holds to the tensor, in the tensor's own dtype or in float32, whichever is finer.</summary>
    public void AddToTensor()
    {
        if (copy is null) throw new InvalidOperationException("The view is the tensor itself.");
        using var guard = no_grad();
        using var target = tensor.detach();
        using var shaped = copy.view(tensor.shape);
        using var addend = shaped.to(target.device);

        // Both operands are promoted to the finer dtype, and only the sum is rounded.
        using var sum = target.Plus(addend);
        _ = target.copy_(sum);
    }

    /// <summary>Makes the tensor hold what the view holds, rounded to its dtype.</summary>
    public void WriteBack()
    {
        if (copy is null) return;
        using var guard = no_grad();
        using var target = tensor.detach();
        using var values = copy.view(tensor.shape);
        _ = target.copy_(values);
    }

    public void Dispose() => copy?.Dispose();
}
