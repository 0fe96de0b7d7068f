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
