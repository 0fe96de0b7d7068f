
namespace ContinuousDL.Replication.Models;

/// <summary>One tensor of a model and the coordinates it takes in the model's flat sequence.</summary>
public sealed class LayoutEntry
{
    internal LayoutEntry(string name, CoordinateKind kind, DType dtype, long[] shape, int offset, int length)
    {
        Name = name;
        Kind = kind;
        DType = dtype;
        Shape = shape;
        Offset = offset;
        Length = length;
        ElementSize = Scalars.SizeOf(dtype);
    }

    /// <summary>The name that the module gives it, such as <c>conv1.weight</c>.</summary>
    public string Name { get; }

    /// <summary>Parameter or buffer.</summary>
    public CoordinateKind Kind { get; }

    /// <summary>The dtype.</summary>
    public DType DType { get; }

    /// <summary>The shape.</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>The first of its coordinates. Its elements follow in row-major order, whatever the tensor's strides.</summary>
    public int Offset { get; }

    /// <summary>The number of its elements.</summary>
    public int Length { get; }

    /// <summary>The size of an element in bytes: 1, 2, 4 or 8.</summary>
    public int ElementSize { get; }

    /// <summary>The size of all its values in bytes.</summary>
    public long SizeInBytes => (long)Length * ElementSize;

    /// <summary>One past the last of its coordinates.</summary>
    public int End => Offset + Length;

    /// <inheritdoc />
    public override string ToString() => $"{(Kind == CoordinateKind.Parameter ? "parameter" : "buffer")} {Name} {DType}[{string.Join(", ", Shape)}]";
}
