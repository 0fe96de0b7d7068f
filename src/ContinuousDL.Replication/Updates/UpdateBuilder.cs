using System.Buffers;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>
/// Collects the changes of one step and makes an update of them. Changes come in ascending order of their coordinates; where
/// they come from several places, in one ascending run from each, later ones counting where a coordinate changes twice.
/// </summary>
public sealed class UpdateBuilder
{
    private readonly List<(int Start, int ByteStart)> runs = [];
    private int[] coordinates = [];
    private byte[] values = [];
    private byte[] previous = [];
    private int valueBytes;
    private bool previousUnknown;

    /// <summary>How many coordinates have been recorded.</summary>
    public int Count { get; private set; }

    /// <summary>Whether every value is carried.</summary>
    public bool IsWhole { get; private set; }

    /// <summary>The coordinates of the last run.</summary>
    public ReadOnlySpan<int> LastCoordinates => IsWhole ? [] : coordinates.AsSpan(LastRun.Start, Count - LastRun.Start);

    /// <summary>Their values before, packed.</summary>
    public ReadOnlySpan<byte> LastPrevious => IsWhole ? [] : previous.AsSpan(LastRun.ByteStart, valueBytes - LastRun.ByteStart);

    private (int Start, int ByteStart) LastRun => runs.Count == 0 ? (0, 0) : runs[^1];

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

    /// <summary>Ends a run: the changes that follow may be of coordinates before the last one.</summary>
    public void EndRun()
    {
        if (!IsWhole && Count > LastRun.Start) runs.Add((Count, valueBytes));
    }

    /// <summary>Forgets the last run.</summary>
    public void DropLastRun()
    {
        if (!IsWhole) (Count, valueBytes) = LastRun;
    }

    /// <summary>Says that the values before are not known of all changes, so that the update has none.</summary>
    public void ForgetPrevious() => previousUnknown = true;

    /// <summary>Checks that an update can carry a value of each coordinate, and list them if it has to: before anything is changed.</summary>
    /// <param name="layout">The model.</param>
    /// <param name="count">How many coordinates it has to list; 0 where it is whole.</param>
    /// <exception cref="NotSupportedException">They take more than an array can hold.</exception>
    public static void ThrowIfTooLarge(ModelLayout layout, long count = 0)
    {
        if (layout.SizeInBytes <= Array.MaxLength && count <= Array.MaxLength) return;
        throw new NotSupportedException(
            $"The model's values take {layout.SizeInBytes:N0} bytes; an update that carries all of them can hold {Array.MaxLength:N0}. Compress to a sparse form, or deploy a snapshot.");
    }

    /// <summary>Starts an update that carries every value; they are then written, tensor by tensor.</summary>
    /// <exception cref="NotSupportedException">They take more than an array can hold.</exception>
    public void BeginWhole(ModelLayout layout)
    {
        ThrowIfTooLarge(layout);
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
        if (!IsWhole && runs.Exists(r => r.Start < Count && coordinates[r.Start] <= coordinates[r.Start - 1])) MergeRuns(identity.Layout);
        if (previousUnknown && previous.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(previous);
            previous = [];
        }

        var update = new ModelUpdate(identity, Count, IsWhole, coordinates, values, IsWhole ? [] : previous, valueBytes);
        coordinates = [];
        values = [];
        if (!IsWhole) previous = [];
        Clear();
        return update;
    }

    /// <summary>Forgets what was recorded.</summary>
    public void Clear()
    {
        Count = 0;
        valueBytes = 0;
        IsWhole = false;
        previousUnknown = false;
        runs.Clear();
    }

    /// <summary>Puts the changes of all runs in ascending order.</summary>
    private void MergeRuns(ModelLayout layout)
    {
        var (sorted, source) = (new UpdateBuilder(), this);
        var ends = runs.Select(r => r.Start).Append(Count).ToArray();
        var cursors = new List<Cursor>();
        for (var r = 0; r < ends.Length; r++)
        {
            var (start, byteStart) = r == 0 ? (0, 0) : runs[r - 1];
            if (start < ends[r]) cursors.Add(new Cursor(layout, start, ends[r], byteStart, coordinates));
        }

        sorted.Grow(source);
        while (cursors.Count > 0) sorted.TakeLowest(cursors, source);
        ArrayPool<int>.Shared.Return(coordinates);
        ArrayPool<byte>.Shared.Return(values);
        ArrayPool<byte>.Shared.Return(previous);
        (coordinates, values, previous, Count, valueBytes) = (sorted.coordinates, sorted.values, sorted.previous, sorted.Count, sorted.valueBytes);
    }

    private void Grow(UpdateBuilder source)
    {
        Grow(ref coordinates, 0, source.Count);
        Grow(ref values, 0, source.valueBytes);
        Grow(ref previous, 0, source.valueBytes);
    }

    /// <summary>Records the lowest coordinate that any run has next: with the value before of the first run that has it, and the new value of the last.</summary>
    private void TakeLowest(List<Cursor> cursors, UpdateBuilder source)
    {
        var lowest = cursors[0].Coordinate;
        foreach (var cursor in cursors) lowest = Math.Min(lowest, cursor.Coordinate);
        var (old, bits, size, found) = (0ul, 0ul, 0, false);
        for (var c = 0; c < cursors.Count; c++)
        {
            var cursor = cursors[c];
            if (cursor.Coordinate != lowest) continue;
            size = cursor.ElementSize;
            if (!found) old = Scalars.Load(source.previous.AsSpan(cursor.ByteStart), 0, size);
            bits = Scalars.Load(source.values.AsSpan(cursor.ByteStart), 0, size);
            found = true;
            if (!cursor.MoveNext()) cursors.RemoveAt(c--);
        }

        if (bits != old || source.previousUnknown) Record(lowest, old, bits, size);
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

    /// <summary>A place in a run.</summary>
    private sealed class Cursor(ModelLayout layout, int start, int end, int byteStart, int[] coordinates)
    {
        private int next = start;
        private LayoutEntry entry = layout.Entries[layout.EntryOf(coordinates[start])];

        public int Coordinate => coordinates[next];

        public int ByteStart { get; private set; } = byteStart;

        public int ElementSize => entry.ElementSize;

        public bool MoveNext()
        {
            ByteStart += entry.ElementSize;
            if (++next == end) return false;
            if (Coordinate >= entry.End) entry = layout.Entries[layout.EntryOf(Coordinate)];
            return true;
        }
    }
}
