using System.Runtime.InteropServices;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>Tells when updates were appended, by a clock that may have been wrong for a while.</summary>
/// <remarks>
/// Updates are appended one after the other, so that their times are in order unless the clock was set. Of times that are not,
/// as many as possible that are in order, none of them later than now, are taken to be right. A file whose time is not among those is
/// as old as the next one whose time is: so it is never taken for older than it is, and not for younger than what came later.
/// </remarks>
internal static class AppendTimes
{
    /// <summary>How many of the oldest files have only updates from before a time.</summary>
    /// <param name="segments">The files, each with a record at least, in their order.</param>
    /// <param name="now">The time now, in milliseconds since 1970.</param>
    /// <param name="limit">The time, in milliseconds since 1970.</param>
    public static int CountBefore(IReadOnlyList<LogSegment> segments, long now, long limit)
    {
        var isRight = InOrder(segments, now);
        var time = now;
        for (var i = segments.Count - 1; i >= 0; i--)
        {
            if (isRight[i]) time = TimeOf(segments[i]);
            if (time < limit) return i + 1;
        }

        return 0;
    }

    private static long TimeOf(LogSegment segment) => segment.Records[^1].Time;

    /// <summary>Finds the most times that are in order: a longest non-decreasing subsequence, by patience sorting.</summary>
    private static bool[] InOrder(IReadOnlyList<LogSegment> segments, long now)
    {
        // Of all subsequences of a length, the one that ends earliest; and for each time the one before it.
        var (ends, ending) = (new List<long>(), new List<int>());
        var before = new int[segments.Count];
        for (var i = 0; i < segments.Count; i++)
        {
            var time = TimeOf(segments[i]);
            if (time > now) continue;
            var length = CountUpTo(CollectionsMarshal.AsSpan(ends), time);
            before[i] = length > 0 ? ending[length - 1] : -1;
            if (length == ends.Count)
            {
                ends.Add(time);
                ending.Add(i);
            }
            else
            {
                (ends[length], ending[length]) = (time, i);
            }
        }

        var isInOrder = new bool[segments.Count];
        for (var i = ending.Count > 0 ? ending[^1] : -1; i >= 0; i = before[i]) isInOrder[i] = true;
        return isInOrder;
    }

    private static int CountUpTo(ReadOnlySpan<long> ascending, long time)
    {
        var (low, high) = (0, ascending.Length);
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (ascending[middle] <= time) low = middle + 1;
            else high = middle;
        }

        return low;
    }
}
