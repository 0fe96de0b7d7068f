using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>A model's values in plain arrays, one for each tensor: what a process keeps that has no deep-learning runtime.</summary>
/// <remarks>All values are zero at first. Nothing of it needs to be disposed.</remarks>
public sealed class ModelArrays : ITensorAccess
{
    private const int LargestRange = 1 << 26;

    private readonly Array[] tensors;

    /// <summary>Makes the arrays.</summary>
    /// <param name="layout">The model's tensors.</param>
    public ModelArrays(ModelLayout layout)
    {
        ArgumentNullException.ThrowIfNull(layout);
        Layout = layout;
        tensors = new Array[layout.Entries.Count];
        for (var t = 0; t < tensors.Length; t++)
        {
            // By the size of the elements, so that a tensor may have as many as an array can.
            var length = layout.Entries[t].Length;
            tensors[t] = layout.Entries[t].ElementSize switch
            {
                1 => new byte[length],
                2 => new ushort[length],
                4 => new uint[length],
                _ => new ulong[length],
            };
        }
    }

    /// <inheritdoc/>
    public ModelLayout Layout { get; }

    /// <summary>All values of one tensor, in row-major order. They are the model's own memory: to be read only.</summary>
    /// <typeparam name="T">A type of the size of the tensor's elements, such as <see cref="float"/> for <see cref="DType.Float32"/>.</typeparam>
    /// <param name="tensor">The index of the tensor in the layout.</param>
    /// <exception cref="ArgumentException">The type is of another size than the tensor's elements.</exception>
    public ReadOnlySpan<T> Values<T>(int tensor)
        where T : unmanaged => Elements<T>(tensor);

    /// <inheritdoc cref="Values{T}(int)"/>
    /// <param name="name">The name of the tensor.</param>
    /// <exception cref="KeyNotFoundException">The model has no tensor of that name.</exception>
    public ReadOnlySpan<T> Values<T>(string name)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(name);
        for (var t = 0; t < tensors.Length; t++)
        {
            if (Layout.Entries[t].Name == name) return Elements<T>(t);
        }

        throw new KeyNotFoundException($"The model has no tensor '{name}'.");
    }

    /// <inheritdoc/>
    public void Read(ReadOnlySpan<int> coordinates, Span<byte> values)
    {
        var sections = new CoordinateSections(coordinates, Layout.Tensors);
        while (sections.MoveNext()) Gather(sections.Index, sections.Coordinates, values.Slice((int)sections.ByteStart, sections.ByteCount));
    }

    /// <inheritdoc/>
    public void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values)
    {
        var sections = new CoordinateSections(coordinates, Layout.Tensors);
        while (sections.MoveNext()) Scatter(sections.Index, sections.Coordinates, values.Slice((int)sections.ByteStart, sections.ByteCount));
    }

    /// <inheritdoc/>
    public void ReadRange(int tensor, int start, Span<byte> values) => Range(tensor, start, values.Length).CopyTo(values);

    /// <inheritdoc/>
    public void WriteRange(int tensor, int start, ReadOnlySpan<byte> values) => values.CopyTo(Range(tensor, start, values.Length));

    /// <inheritdoc/>
    public ulong ComputeDigest()
    {
        var digest = 0ul;
        for (var tensor = 0; tensor < tensors.Length; tensor++)
        {
            var entry = Layout.Entries[tensor];
            for (var start = 0; start < entry.Length; start += Step(entry, start)) digest += StateDigest.Sum(entry, start, Range(tensor, start, Step(entry, start) * entry.ElementSize));
        }

        return digest;
    }

    /// <inheritdoc/>
    public void CopyFrom(ITensorAccess source)
    {
        ArgumentNullException.ThrowIfNull(source);
        for (var tensor = 0; tensor < tensors.Length; tensor++)
        {
            var entry = Layout.Entries[tensor];
            for (var start = 0; start < entry.Length; start += Step(entry, start)) source.ReadRange(tensor, start, Range(tensor, start, Step(entry, start) * entry.ElementSize));
        }
    }

    /// <summary>Nothing is kept.</summary>
    public void Dispose()
    {
    }

    /// <summary>How many elements to go through at once: as many as fit a span.</summary>
    private static int Step(LayoutEntry entry, int start) => Math.Min(LargestRange / entry.ElementSize, entry.Length - start);

    private Span<T> Elements<T>(int tensor)
        where T : unmanaged
    {
        var entry = Layout.Entries[tensor];
        if (Unsafe.SizeOf<T>() != entry.ElementSize)
        {
            throw new ArgumentException($"An element of the tensor '{entry.Name}' takes {entry.ElementSize} bytes, a {typeof(T).Name} {Unsafe.SizeOf<T>()}.");
        }

        return MemoryMarshal.CreateSpan(ref Unsafe.As<byte, T>(ref MemoryMarshal.GetArrayDataReference(tensors[tensor])), entry.Length);
    }

    private Span<byte> Range(int tensor, int start, int bytes)
    {
        var entry = Layout.Entries[tensor];
        var first = (long)start * entry.ElementSize;
        if (start < 0 || first + bytes > (long)entry.Length * entry.ElementSize)
        {
            throw new ArgumentOutOfRangeException(nameof(start), start, $"The tensor '{entry.Name}' has {entry.Length} elements; {bytes} bytes from element {start} on are more.");
        }

        return MemoryMarshal.CreateSpan(ref Unsafe.AddByteOffset(ref MemoryMarshal.GetArrayDataReference(tensors[tensor]), (nint)first), bytes);
    }

    private void Gather(int tensor, ReadOnlySpan<int> coordinates, Span<byte> values)
    {
        var entry = Layout.Entries[tensor];
        switch (entry.ElementSize)
        {
            case 1: Gather(Elements<byte>(tensor), entry.Offset, coordinates, values); break;
            case 2: Gather(Elements<ushort>(tensor), entry.Offset, coordinates, MemoryMarshal.Cast<byte, ushort>(values)); break;
            case 4: Gather(Elements<uint>(tensor), entry.Offset, coordinates, MemoryMarshal.Cast<byte, uint>(values)); break;
            default: Gather(Elements<ulong>(tensor), entry.Offset, coordinates, MemoryMarshal.Cast<byte, ulong>(values)); break;
        }
    }

    private void Scatter(int tensor, ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values)
    {
        var entry = Layout.Entries[tensor];
        switch (entry.ElementSize)
        {
            case 1: Scatter(Elements<byte>(tensor), entry.Offset, coordinates, values); break;
            case 2: Scatter(Elements<ushort>(tensor), entry.Offset, coordinates, MemoryMarshal.Cast<byte, ushort>(values)); break;
            case 4: Scatter(Elements<uint>(tensor), entry.Offset, coordinates, MemoryMarshal.Cast<byte, uint>(values)); break;
            default: Scatter(Elements<ulong>(tensor), entry.Offset, coordinates, MemoryMarshal.Cast<byte, ulong>(values)); break;
        }
    }

    private static void Gather<T>(ReadOnlySpan<T> elements, int offset, ReadOnlySpan<int> coordinates, Span<T> values)
    {
        values = values[..coordinates.Length];
        for (var j = 0; j < coordinates.Length; j++) values[j] = elements[coordinates[j] - offset];
    }

    private static void Scatter<T>(Span<T> elements, int offset, ReadOnlySpan<int> coordinates, ReadOnlySpan<T> values)
    {
        values = values[..coordinates.Length];
        for (var j = 0; j < coordinates.Length; j++) elements[coordinates[j] - offset] = values[j];
    }
}
