using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.History;

/// <summary>The dtype and shape of one row of a batch.</summary>
/// <param name="shape">The shape of the batch without its first dimension.</param>
/// <param name="dtype">The dtype.</param>
/// <param name="bytes">The size of a row in bytes; 0 for one without elements.</param>
internal sealed class TensorFormat(long[] shape, ScalarType dtype, long bytes)
{
    /// <summary>The most dimensions that libtorch itself knows, beside the one of the batch.</summary>
    private const int MostDimensions = 63;

    private readonly long[] shape = shape;
    private readonly ScalarType dtype = dtype;

    /// <summary>The size of a row in bytes; 0 for one without elements.</summary>
    public long Bytes { get; } = bytes;

    /// <summary>Takes the format from a batch, <c>[N, ...]</c>.</summary>
    /// <param name="batch">The batch.</param>
    /// <param name="name">The name of the argument that it is.</param>
    /// <param name="rows">The number of rows, N.</param>
    /// <exception cref="ArgumentException">The batch is not a dense tensor with data and at least one row.</exception>
    /// <exception cref="ObjectDisposedException">The batch is disposed.</exception>
    public static TensorFormat Of(Tensor batch, string name, out long rows)
    {
        ArgumentNullException.ThrowIfNull(batch, name);
        if (batch.IsInvalid) throw new ObjectDisposedException(name, $"The tensor {name} is disposed; it has to be alive when it is appended.");
        var dtype = batch.dtype;
        if (batch.is_sparse || is_quantized(dtype) || batch.device_type == DeviceType.META)
            throw new ArgumentException($"{name} is a sparse, quantized or meta tensor ({dtype}); samples are dense tensors with data.", name);
        var size = batch.shape;
        if (size.Length == 0) throw new ArgumentException($"{name} has no dimensions; a batch has the shape [N, ...].", name);
        if (size[0] == 0) throw new ArgumentException($"{name} is empty, [{string.Join(", ", size)}]; a batch has at least one sample.", name);

        rows = size[0];
        return new TensorFormat(size[1..], dtype, batch.NumberOfElements / rows * batch.ElementSize);
    }

    /// <summary>Makes an uninitialised tensor of such rows on the CPU. It belongs to the caller and to no dispose scope.</summary>
    /// <param name="rows">The number of rows.</param>
    public Tensor NewTensor(long rows)
    {
        Span<long> size = [rows, .. shape];
        return empty(size, dtype, CPU).DetachFromDisposeScope();
    }

    /// <summary>Checks that rows of another format can be kept beside those of this one.</summary>
    /// <param name="other">The other format.</param>
    /// <param name="name">The name of the argument that has it.</param>
    /// <exception cref="ArgumentException">Shape or dtype differs.</exception>
    public void CheckMatches(TensorFormat other, string name)
    {
        if (dtype != other.dtype || !shape.AsSpan().SequenceEqual(other.shape))
            throw new ArgumentException($"{name} has rows of {other}; those in the history are {this}.", name);
    }

    /// <summary>Writes the format: dtype, size of a row, number of dimensions, dimensions.</summary>
    public void Save(BinaryWriter writer)
    {
        writer.Write((int)dtype);
        writer.Write(Bytes);
        writer.Write(shape.Length);
        foreach (var size in shape) writer.Write(size);
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="EndOfStreamException">It is cut short.</exception>
    /// <exception cref="InvalidDataException">It is no format.</exception>
    public static TensorFormat Load(BinaryReader reader)
    {
        var (dtype, bytes, dimensions) = ((ScalarType)reader.ReadInt32(), reader.ReadInt64(), reader.ReadInt32());
        if (bytes < 0 || dimensions is < 0 or > MostDimensions || !Enum.IsDefined(dtype)) throw new InvalidDataException("This is not the format of a sample.");
        var shape = new long[dimensions];
        for (var d = 0; d < dimensions; d++) shape[d] = reader.ReadInt64();
        return new TensorFormat(shape, dtype, bytes);
    }

    /// <inheritdoc />
    public override string ToString() => $"[{string.Join(", ", shape)}] {dtype}";
}
