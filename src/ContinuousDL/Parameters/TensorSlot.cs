using System.Buffers;
using System.Runtime.InteropServices;
using ContinuousDL.Memory;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>A tensor of a model together with its coordinates: reads and writes their values as raw bits.</summary>
/// <remarks>The tensor stays the module's own, or the creator's; a slot keeps it and never disposes it.</remarks>
internal abstract class TensorSlot(LayoutEntry entry, Tensor tensor)
{
    public LayoutEntry Entry { get; } = entry;

    public Tensor Tensor { get; } = tensor;

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

    /// <summary>Reads all elements in row-major order.</summary>
    /// <param name="values">Receives <c>Entry.Length · Entry.ElementSize</c> bytes.</param>
    public abstract void ReadAll(Span<byte> values);

    /// <summary>Writes all elements in row-major order.</summary>
    public abstract void WriteAll(ReadOnlySpan<byte> values);

    /// <summary>Shows all elements in row-major order, where they lie like that in main memory.</summary>
    /// <param name="values">The tensor's own memory; valid as long as the tensor.</param>
    /// <returns>Whether they do.</returns>
    public virtual bool TryView(out ReadOnlySpan<byte> values)
    {
        values = default;
        return false;
    }

    /// <summary>The part of the state's digest that comes from this tensor.</summary>
    public ulong ComputeDigest()
    {
        if (TryView(out var view)) return StateDigest.Sum(Entry, view);
        var length = checked(Entry.Length * Entry.ElementSize);
        var values = ArrayPool<byte>.Shared.Rent(length);
        ReadAll(values.AsSpan(0, length));
        var digest = StateDigest.Sum(Entry, values.AsSpan(0, length));
        ArrayPool<byte>.Shared.Return(values);
        return digest;
    }

    /// <summary>Takes over all values from a tensor of the same shape and dtype.</summary>
    public void CopyFrom(TensorSlot source)
    {
        if (source.TryView(out var view))
        {
            WriteAll(view);
            return;
        }

        if (Tensor.device_type == source.Tensor.device_type && Tensor.device_index == source.Tensor.device_index)
        {
            ThrowIfDisposed();
            source.ThrowIfDisposed();
            using var guard = no_grad();
            using var target = Tensor.detach();
            _ = target.copy_(source.Tensor);
            return;
        }

        var length = checked(Entry.Length * Entry.ElementSize);
        var values = ArrayPool<byte>.Shared.Rent(length);
        source.ReadAll(values.AsSpan(0, length));
        WriteAll(values.AsSpan(0, length));
        ArrayPool<byte>.Shared.Return(values);
    }

    /// <summary>Whether a tensor of the same shape and dtype has the same values, bit for bit.</summary>
    public bool HasSameValues(TensorSlot other)
    {
        if (TryView(out var own) && other.TryView(out var others)) return own.SequenceEqual(others);
        var length = checked(Entry.Length * Entry.ElementSize);
        var (values, otherValues) = (ArrayPool<byte>.Shared.Rent(length), ArrayPool<byte>.Shared.Rent(length));
        ReadAll(values.AsSpan(0, length));
        other.ReadAll(otherValues.AsSpan(0, length));
        var same = values.AsSpan(0, length).SequenceEqual(otherValues.AsSpan(0, length));
        ArrayPool<byte>.Shared.Return(values);
        ArrayPool<byte>.Shared.Return(otherValues);
        return same;
    }

    /// <summary>Writes all elements to a stream, in row-major order.</summary>
    public void Save(BinaryWriter writer)
    {
        if (TryView(out var view))
        {
            writer.Write(view);
            return;
        }

        var length = Entry.Length * Entry.ElementSize;
        var values = ArrayPool<byte>.Shared.Rent(length);
        ReadAll(values.AsSpan(0, length));
        writer.Write(values.AsSpan(0, length));
        ArrayPool<byte>.Shared.Return(values);
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="EndOfStreamException">It is cut short. The tensor is as it was.</exception>
    public void Load(BinaryReader reader)
    {
        var length = Entry.Length * Entry.ElementSize;
        var values = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            reader.ReadExactly(values.AsSpan(0, length));
            WriteAll(values.AsSpan(0, length));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(values);
        }
    }

    /// <summary>A tensor of its own with the same contents, contiguous. Owned by the caller.</summary>
    public Tensor Clone()
    {
        using var guard = no_grad();
        using var scope = NewDisposeScope();
        return Tensor.detach().contiguous().clone().DetachFromDisposeScope();
    }

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
    public float* ContiguousFloats => contiguous && Entry.DType == ScalarType.Float32 ? (float*)Address() : null;

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

    public override bool TryView(out ReadOnlySpan<byte> values)
    {
        var size = (long)Entry.Length * Entry.ElementSize;
        var visible = contiguous && size <= int.MaxValue;
        values = visible ? new ReadOnlySpan<byte>(Address(), (int)size) : default;
        return visible;
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

    public override void ReadAll(Span<byte> values)
    {
        if (TryView(out var view))
        {
            view.CopyTo(values);
            return;
        }

        var start = Address();

        fixed (byte* destination = values)
        {
            for (var i = 0; i < Entry.Length; i++)
            {
                Scalars.Store(destination + ((long)i * Entry.ElementSize), Entry.ElementSize, Scalars.Load(start + (Position(i) * Entry.ElementSize), Entry.ElementSize));
            }
        }
    }

    public override void WriteAll(ReadOnlySpan<byte> values)
    {
        var start = Address();
        if (contiguous)
        {
            values.CopyTo(new Span<byte>(start, values.Length));
            return;
        }

        fixed (byte* source = values)
        {
            for (var i = 0; i < Entry.Length; i++)
            {
                Scalars.Store(start + (Position(i) * Entry.ElementSize), Entry.ElementSize, Scalars.Load(source + ((long)i * Entry.ElementSize), Entry.ElementSize));
            }
        }
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
        var values = empty([bits.Length], dtype: Entry.DType);
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
        var elements = empty([coordinates.Length], dtype: Entry.DType);
        values.CopyTo(elements.bytes);
        Put(coordinates, elements);
    }

    public override void ReadAll(Span<byte> values)
    {
        ThrowIfDisposed();
        using var scope = NewDisposeScope();
        Tensor.detach().cpu().contiguous().bytes.CopyTo(values);
    }

    public override void WriteAll(ReadOnlySpan<byte> values)
    {
        ThrowIfDisposed();
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var host = empty(Tensor.shape, dtype: Entry.DType);
        values.CopyTo(host.bytes);
        _ = Tensor.detach().copy_(host);
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
