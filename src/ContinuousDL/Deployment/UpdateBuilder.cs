using System.Buffers;
using ContinuousDL.Parameters;

namespace ContinuousDL.Deployment;

/// <summary>Collects the changes of one step, in ascending order of their coordinates, and makes an update of them.</summary>
internal sealed class UpdateBuilder
{
    private int[] coordinates = [];
    private byte[] values = [];
    private byte[] previous = [];
    private int valueBytes;

    public int Count { get; private set; }

    public bool IsWhole { get; private set; }

    /// <summary>The coordinates recorded so far.</summary>
    public ReadOnlySpan<int> Coordinates => IsWhole ? [] : coordinates.AsSpan(0, Count);

    /// <summary>What their values were, packed.</summary>
    public ReadOnlySpan<byte> Previous => IsWhole ? [] : previous.AsSpan(0, valueBytes);

    /// <summary>Makes room for more changes of a tensor, so that they can be recorded without growing.</summary>
    public void Reserve(int count, int elementSize)
    {
        Grow(ref coordinates, Count, (long)Count + count);
        Grow(ref values, valueBytes, valueBytes + ((long)count * elementSize));
        Grow(ref previous, valueBytes, valueBytes + ((long)count * elementSize));
    }

    /// <summary>Records a change of value. There must be room for it.</summary>
    public void Record(int coordinate, ulong oldBits, ulong newBits, int elementSize)
    {
        coordinates[Count++] = coordinate;
        Scalars.Store(values.AsSpan(valueBytes), 0, elementSize, newBits);
        Scalars.Store(previous.AsSpan(valueBytes), 0, elementSize, oldBits);
        valueBytes += elementSize;
    }

    /// <summary>Starts an update that carries every value; they are then written, tensor by tensor.</summary>
    /// <exception cref="NotSupportedException">They take more than an array can hold.</exception>
    public void BeginWhole(ModelLayout layout)
    {
        if (layout.SizeInBytes > Array.MaxLength)
        {
            throw new NotSupportedException(
                $"The model's values take {layout.SizeInBytes:N0} bytes; an update that carries all of them can hold {Array.MaxLength:N0}. Compress, or deploy a snapshot.");
        }

        Clear();
        Grow(ref values, 0, layout.SizeInBytes);
        IsWhole = true;
        Count = layout.Count;
    }

    /// <summary>The next <paramref name="bytes"/> bytes of values, to be written.</summary>
    public Span<byte> NextValues(int bytes)
    {
        valueBytes += bytes;
        return values.AsSpan(valueBytes - bytes, bytes);
    }

    /// <summary>All values, of an update that carries every one.</summary>
    public ReadOnlySpan<byte> WholeValues => IsWhole ? values.AsSpan(0, valueBytes) : [];

    /// <summary>Makes an update of what was recorded, which takes over the memory, and starts anew.</summary>
    public ModelUpdate Build(in UpdateIdentity identity)
    {
        var update = new ModelUpdate(identity, Count, IsWhole, coordinates, values, IsWhole ? [] : previous, valueBytes);
        coordinates = [];
        values = [];
        if (!IsWhole) previous = [];
        Clear();
        return update;
    }

    public void Clear()
    {
        Count = 0;
        valueBytes = 0;
        IsWhole = false;
    }

    private static void Grow<T>(ref T[] array, int used, long needed)
    {
        if (array.Length >= needed) return;
        if (needed > Array.MaxLength) throw new NotSupportedException($"An update can hold {Array.MaxLength:N0} coordinates and bytes of values; this one has {needed:N0}.");
        var larger = ArrayPool<T>.Shared.Rent((int)Math.Min(Array.MaxLength, Math.Max(needed, 2L * used)));
        array.AsSpan(0, used).CopyTo(larger);
        if (array.Length > 0) ArrayPool<T>.Shared.Return(array);
        array = larger;
    }
}
