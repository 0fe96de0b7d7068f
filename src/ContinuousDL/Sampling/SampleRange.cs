namespace ContinuousDL.Sampling;

/// <summary>
/// The samples that a batch may be drawn from: the historical ones, [<see cref="First"/>, <see cref="FirstNew"/>), and the
/// new ones, [<see cref="FirstNew"/>, <see cref="End"/>), which have not been trained on yet.
/// </summary>
public readonly record struct SampleRange
{
    /// <summary>Makes a range.</summary>
    /// <param name="first">The index of the oldest sample.</param>
    /// <param name="firstNew">The index of the oldest new sample; <paramref name="end"/> when there is none.</param>
    /// <param name="end">One past the index of the newest sample.</param>
    /// <exception cref="ArgumentOutOfRangeException">Not 0 ≤ first ≤ firstNew ≤ end.</exception>
    public SampleRange(long first, long firstNew, long end)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        ArgumentOutOfRangeException.ThrowIfLessThan(firstNew, first);
        ArgumentOutOfRangeException.ThrowIfLessThan(end, firstNew);
        First = first;
        FirstNew = firstNew;
        End = end;
    }

    /// <summary>The index of the oldest sample.</summary>
    public long First { get; }

    /// <summary>The index of the oldest new sample.</summary>
    public long FirstNew { get; }

    /// <summary>One past the index of the newest sample.</summary>
    public long End { get; }

    /// <summary>How many samples there are.</summary>
    public long Count => End - First;

    /// <summary>How many of them are new.</summary>
    public long NewCount => End - FirstNew;

    /// <summary>How many of them are historical.</summary>
    public long HistoricalCount => FirstNew - First;
}
