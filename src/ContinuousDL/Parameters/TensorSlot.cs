using System.Runtime.InteropServices;
using ContinuousDL.Memory;
using ContinuousDL.Replication.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>A tensor of a model together with its coordinates: reads and writes their values as raw bits.</summary>
/// <remarks>The tensor stays the module's own, or the creator's; a slot keeps it and never disposes it.</remarks>
public abstract class TensorSlot(LayoutEntry entry, Tensor tensor)
{
    /// <summary>The tensor's coordinates.</summary>
    public LayoutEntry Entry { get; } = entry;

    /// <summary>The tensor. It stays its owner's.</summary>
    public Tensor Tensor { get; } = tensor;

    /// <summary>Pairs a tensor with its coordinates.</summary>
    /// <param name="entry">The coordinates.</param>
    /// <param name="tensor">The tensor, of that shape and dtype. It stays its owner's.</param>
    public static TensorSlot Of(LayoutEntry entry, Tensor tensor) =>
        tensor.device_type == DeviceType.CPU ? new CpuTensorSlot(entry, tensor) : new DeviceTensorSlot(entry, tensor);

    /// <summary>Reads single coordinates.</summary>
    /// <param name="coordinates">Coordinates of this tensor, in the model's numbering.</param>
    /// <param name="bits">Receives their bits, zero-extended.</param>
    public abstract void Read(ReadOnlySpan<int> coordinates, Span<ulong> bits);

    /// <summary>Writes single coordinates.</summary>
    public abstract void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<ulong> bits);

    /// <summary>Reads single coordinates.</summary>
    /// <param name="coordinates">Coordinates of this tensor, in the model's numbering.</param>
    /// <param name="values">Receives their values, packed.</param>
    public abstract void Read(ReadOnlySpan<int> coordinates, Span<byte> values);

    /// <summary>Writes single coordinates.</summary>
    /// <param name="coordinates">Coordinates of this tensor, in the model's numbering.</param>
    /// <param name="values">Their values, packed.</param>
    public abstract void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values);

    /// <summary>Reads elements that follow one another in row-major order.</summary>
    /// <param name="first">The first of them.</param>
    /// <param name="values">Receives them: as many as there is room for.</param>
    public abstract void ReadRange(int first, Span<byte> values);

    /// <summary>Writes elements that follow one another in row-major order.</summary>
    /// <param name="first">The first of them.</param>
    /// <param name="values">The elements.</param>
    public abstract void WriteRange(int first, ReadOnlySpan<byte> values);

    /// <summary>Reads all elements in row-major order.</summary>
    /// <param name="values">Receives <c>Entry.Length · Entry.ElementSize</c> bytes; a tensor of 2 GiB or more needs <see cref="TensorValues"/>.</param>
    public void ReadAll(Span<byte> values) => ReadRange(0, values[..checked((int)Entry.SizeInBytes)]);

    /// <summary>Writes all elements in row-major order.</summary>
    public void WriteAll(ReadOnlySpan<byte> values) => WriteRange(0, values);

    /// <summary>Reads all elements in row-major order.</summary>
    public void ReadAll(TensorValues values)
    {
        ThrowIfDisposed();
        for (var offset = 0L; offset < values.Length;)
        {
            var part = values.From(offset);
            ReadRange((int)(offset / Entry.ElementSize), part);
            offset += part.Length;
        }
    }

    /// <summary>Writes all elements in row-major order.</summary>
    public void WriteAll(TensorValues values)
    {
        ThrowIfDisposed();
        for (var offset = 0L; offset < values.Length;)
        {
            var part = values.From(offset);
            WriteRange((int)(offset / Entry.ElementSize), part);
            offset += part.Length;
        }
    }

    /// <summary>Shows elements that follow one another in row-major order, where they lie like that in main memory.</summary>
    /// <param name="first">The first of them.</param>
    /// <param name="count">How many; their bytes must fit a span.</param>
    /// <param name="values">The tensor's own memory; valid as long as the tensor.</param>
    /// <returns>Whether they do.</returns>
    public virtual bool TryView(int first, int count, out ReadOnlySpan<byte> values)
    {
        values = default;
        return false;
    }

    /// <summary>The part of the state's digest that comes from this tensor.</summary>
    public ulong ComputeDigest()
    {
        ThrowIfDisposed();
        var digest = 0ul;
        using var pieces = new TensorPieces(this);
        while (pieces.MoveNext()) digest += StateDigest.Sum(Entry, pieces.First, pieces.Values);
        return digest;
    }

    /// <summary>Takes over all values from a tensor of the same shape and dtype.</summary>
    public void CopyFrom(TensorSlot source)
    {
        ThrowIfDisposed();
        source.ThrowIfDisposed();
        if (!source.TryView(0, 0, out _) && Tensor.device_type == source.Tensor.device_type && Tensor.device_index == source.Tensor.device_index)
        {
            using var guard = no_grad();
            using var target = Tensor.detach();
            _ = target.copy_(source.Tensor);
            return;
        }

        using var pieces = new TensorPieces(source);
        while (pieces.MoveNext()) WriteRange(pieces.First, pieces.Values);
    }

    /// <summary>Whether a tensor of the same shape and dtype has the same values, bit for bit.</summary>
    public bool HasSameValues(TensorSlot other)
    {
        using var own = new TensorPieces(this);
        using var others = new TensorPieces(other);
        while (own.MoveNext() && others.MoveNext())
        {
            if (!own.Values.SequenceEqual(others.Values)) return false;
        }

        return true;
    }

    /// <summary>Writes all elements to a stream, in row-major order.</summary>
    public void Save(BinaryWriter writer)
    {
        ThrowIfDisposed();
        using var pieces = new TensorPieces(this);
        while (pieces.MoveNext()) writer.Write(pieces.Values);
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="EndOfStreamException">It is cut short. The tensor is as it was.</exception>
    public void Load(BinaryReader reader)
    {
        var values = TensorValues.Allocate(Entry);
        for (var i = 0; i < values.PartCount; i++) reader.ReadExactly(values.Part(i).Span);
        WriteAll(values);
    }

    /// <summary>A copy of all values.</summary>
    public TensorValues ToValues()
    {
        var values = TensorValues.Allocate(Entry);
        ReadAll(values);
        return values;
    }

    /// <summary>A tensor of its own with the same contents, contiguous. Owned by the caller.</summary>
    public Tensor Clone()
    {
        using var guard = no_grad();
        using var scope = NewDisposeScope();
        return Tensor.detach().contiguous().clone().DetachFromDisposeScope();
    }

    /// <summary>Says so where the tensor is disposed.</summary>
    /// <exception cref="ObjectDisposedException">It is.</exception>
    public void ThrowIfDisposed()
    {
        if (Tensor.IsInvalid) throw new ObjectDisposedException(Entry.Name, $"The model's tensor '{Entry.Name}' is disposed.");
    }
}

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
