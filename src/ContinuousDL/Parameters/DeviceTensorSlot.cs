using ContinuousDL.Replication.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>A slot on another device: everything goes through TorchSharp operations and main memory.</summary>
internal sealed class DeviceTensorSlot(LayoutEntry entry, Tensor tensor) : TensorSlot(entry, tensor)
{
    public override void Read(ReadOnlySpan<int> coordinates, Span<ulong> bits)
    {
        using var scope = NewDisposeScope();
        var bytes = Pick(coordinates).bytes;
        for (var j = 0; j < bits.Length; j++) bits[j] = Scalars.Load(bytes, j, Entry.ElementSize);
    }

    public override void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<ulong> bits)
    {
        using var scope = NewDisposeScope();
        var values = empty([bits.Length], dtype: Entry.DType.ToScalarType());
        var bytes = values.bytes;
        for (var j = 0; j < bits.Length; j++) Scalars.Store(bytes, j, Entry.ElementSize, bits[j]);
        Put(coordinates, values);
    }

    public override void Read(ReadOnlySpan<int> coordinates, Span<byte> values)
    {
        using var scope = NewDisposeScope();
        Pick(coordinates).bytes.CopyTo(values);
    }

    public override void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values)
    {
        using var scope = NewDisposeScope();
        var elements = empty([coordinates.Length], dtype: Entry.DType.ToScalarType());
        values.CopyTo(elements.bytes);
        Put(coordinates, elements);
    }

    public override void ReadRange(int first, Span<byte> values)
    {
        ThrowIfDisposed();
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        Tensor.detach().flatten().narrow(0, first, values.Length / Entry.ElementSize).cpu().bytes.CopyTo(values);
    }

    public override void WriteRange(int first, ReadOnlySpan<byte> values)
    {
        ThrowIfDisposed();
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var count = values.Length / Entry.ElementSize;
        var host = empty([count], dtype: Entry.DType.ToScalarType());
        values.CopyTo(host.bytes);
        if (count == Entry.Length)
        {
            _ = Tensor.detach().copy_(host.view(Tensor.shape));
            return;
        }

        // As with single elements: a flattened view of a tensor with gaps would be a copy that is thrown away.
        var flat = Tensor.detach().contiguous().flatten();
        _ = flat.narrow(0, first, count).copy_(host);
        _ = Tensor.detach().copy_(flat.view(Tensor.shape));
    }

    /// <summary>Elements in main memory, in the caller's dispose scope.</summary>
    private Tensor Pick(ReadOnlySpan<int> coordinates)
    {
        ThrowIfDisposed();
        using var guard = no_grad();
        return Tensor.detach().flatten().index_select(0, Positions(coordinates)).cpu();
    }

    /// <summary>Writes elements, with temporaries in the caller's dispose scope.</summary>
    private void Put(ReadOnlySpan<int> coordinates, Tensor values)
    {
        ThrowIfDisposed();
        using var guard = no_grad();

        // Through a contiguous copy, since a flattened view of a tensor with gaps would be a copy that is thrown away.
        var flat = Tensor.detach().contiguous().flatten();
        _ = flat.index_copy_(0, Positions(coordinates), values.to(Tensor.device));
        _ = Tensor.detach().copy_(flat.view(Tensor.shape));
    }

    private Tensor Positions(ReadOnlySpan<int> coordinates)
    {
        var positions = new long[coordinates.Length];
        for (var j = 0; j < positions.Length; j++) positions[j] = coordinates[j] - Entry.Offset;
        return torch.tensor(positions, device: Tensor.device);
    }
}
