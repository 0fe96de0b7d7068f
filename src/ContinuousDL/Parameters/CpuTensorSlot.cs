using System.Runtime.InteropServices;
using ContinuousDL.Memory;
using ContinuousDL.Replication.Models;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>A slot in main memory, of any strides.</summary>
internal sealed unsafe class CpuTensorSlot : TensorSlot
{
    private readonly bool contiguous;
    private readonly long[] shape;
    private readonly long[] strides;

    public CpuTensorSlot(LayoutEntry entry, Tensor tensor)
        : base(entry, tensor)
    {
        contiguous = tensor.is_contiguous();
        shape = tensor.shape;
        strides = tensor.stride();
    }

    /// <summary>The address of the first element, or null where the elements are not contiguous float32.</summary>
    public float* ContiguousFloats => contiguous && Entry.DType == DType.Float32 ? (float*)Address() : null;

    /// <summary>The address of the first element.</summary>
    public byte* Address()
    {
        ThrowIfDisposed();
        return TensorMemory.AddressOf(Tensor);
    }

    public byte* AddressOf(byte* start, int coordinate) => start + (Position(coordinate - Entry.Offset) * Entry.ElementSize);

    public override void Read(ReadOnlySpan<int> coordinates, Span<ulong> bits)
    {
        var start = Address();
        for (var j = 0; j < coordinates.Length; j++) bits[j] = Scalars.Load(AddressOf(start, coordinates[j]), Entry.ElementSize);
    }

    public override void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<ulong> bits)
    {
        var start = Address();
        for (var j = 0; j < coordinates.Length; j++) Scalars.Store(AddressOf(start, coordinates[j]), Entry.ElementSize, bits[j]);
    }

    public override bool TryView(int first, int count, out ReadOnlySpan<byte> values)
    {
        values = contiguous ? new ReadOnlySpan<byte>(Address() + ((long)first * Entry.ElementSize), count * Entry.ElementSize) : default;
        return contiguous;
    }

    public override void Read(ReadOnlySpan<int> coordinates, Span<byte> values)
    {
        var start = Address();
        if (contiguous && Entry.ElementSize == sizeof(uint))
        {
            var elements = new ReadOnlySpan<uint>(start, Entry.Length);
            var words = MemoryMarshal.Cast<byte, uint>(values)[..coordinates.Length];
            for (var j = 0; j < words.Length; j++) words[j] = elements[coordinates[j] - Entry.Offset];
            return;
        }

        for (var j = 0; j < coordinates.Length; j++) Scalars.Store(values, j, Entry.ElementSize, Scalars.Load(AddressOf(start, coordinates[j]), Entry.ElementSize));
    }

    public override void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values)
    {
        var start = Address();
        if (contiguous && Entry.ElementSize == sizeof(uint))
        {
            var elements = new Span<uint>(start, Entry.Length);
            var words = MemoryMarshal.Cast<byte, uint>(values)[..coordinates.Length];
            for (var j = 0; j < words.Length; j++) elements[coordinates[j] - Entry.Offset] = words[j];
            return;
        }

        for (var j = 0; j < coordinates.Length; j++) Scalars.Store(AddressOf(start, coordinates[j]), Entry.ElementSize, Scalars.Load(values, j, Entry.ElementSize));
    }

    public override void ReadRange(int first, Span<byte> values)
    {
        var start = Address();
        var size = Entry.ElementSize;
        if (contiguous)
        {
            new ReadOnlySpan<byte>(start + ((long)first * size), values.Length).CopyTo(values);
            return;
        }

        var count = values.Length / size;
        for (var i = 0; i < count; i++) Scalars.Store(values, i, size, Scalars.Load(start + (Position(first + i) * size), size));
    }

    public override void WriteRange(int first, ReadOnlySpan<byte> values)
    {
        var start = Address();
        var size = Entry.ElementSize;
        if (contiguous)
        {
            values.CopyTo(new Span<byte>(start + ((long)first * size), values.Length));
            return;
        }

        var count = values.Length / size;
        for (var i = 0; i < count; i++) Scalars.Store(start + (Position(first + i) * size), size, Scalars.Load(values, i, size));
    }

    /// <summary>Where an element lies, in elements from the first.</summary>
    private long Position(int element)
    {
        if (contiguous) return element;
        var position = 0L;
        long rest = element;
        for (var d = shape.Length - 1; d >= 0; d--)
        {
            (rest, var index) = Math.DivRem(rest, shape[d]);
            position += index * strides[d];
        }

        return position;
    }
}
