namespace ContinuousDL.Replication.Models;

/// <summary>Goes through ascending coordinates tensor by tensor, or run by run: those that belong to each that has any.</summary>
/// <param name="coordinates">The coordinates, ascending, all of the model.</param>
/// <param name="entries">The tensors of a layout, or its runs.</param>
public ref struct CoordinateSections(ReadOnlySpan<int> coordinates, ReadOnlySpan<LayoutEntry> entries)
{
    private readonly ReadOnlySpan<int> coordinates = coordinates;
    private readonly ReadOnlySpan<LayoutEntry> entries = entries;
    private int end;
    private long byteEnd;

    /// <summary>The index of the tensor or run.</summary>
    public int Index { get; private set; } = -1;

    /// <summary>The tensor or run.</summary>
    public readonly LayoutEntry Entry => entries[Index];

    /// <summary>The coordinates that belong to it.</summary>
    public ReadOnlySpan<int> Coordinates { get; private set; }

    /// <summary>Where their values start among those of all the coordinates, packed; in bytes.</summary>
    public long ByteStart { get; private set; }

    /// <summary>The size of their values, packed; in bytes.</summary>
    public readonly int ByteCount => checked((int)(byteEnd - ByteStart));

    /// <summary>Goes on to the next one that has any of the coordinates.</summary>
    /// <returns>Whether there is one.</returns>
    public bool MoveNext()
    {
        if (end == coordinates.Length) return false;
        var start = end;
        var first = coordinates[start];

        // The next one that has any is usually near, and all steps together are at most as many as there are.
        do Index++;
        while (entries[Index].End <= first);
        end = start + CoordinateSearch.CountBelow(coordinates[start..], Entry.End);
        Coordinates = coordinates[start..end];
        ByteStart = byteEnd;
        byteEnd += (long)Coordinates.Length * Entry.ElementSize;
        return true;
    }

    /// <summary>The size of the values of ascending coordinates, packed; in bytes.</summary>
    /// <param name="coordinates">The coordinates, ascending, all of the model.</param>
    /// <param name="layout">The model's tensors.</param>
    public static long SizeOf(ReadOnlySpan<int> coordinates, ModelLayout layout)
    {
        var sections = new CoordinateSections(coordinates, layout.Runs);
        while (sections.MoveNext())
        {
        }

        return sections.byteEnd;
    }
}
