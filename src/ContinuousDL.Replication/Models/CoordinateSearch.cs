namespace ContinuousDL.Replication.Models;

/// <summary>Cuts ascending coordinates at the borders of tensors.</summary>
public static class CoordinateSearch
{
    /// <summary>How many of the ascending <paramref name="coordinates"/> are below <paramref name="end"/>.</summary>
    public static int CountBelow(ReadOnlySpan<int> coordinates, int end)
    {
        if (coordinates.IsEmpty || coordinates[^1] < end) return coordinates.Length;

        // In steps that double first, since the answer is often a small part of the whole.
        var high = 1;
        while (high < coordinates.Length && coordinates[high] < end) high *= 2;
        var low = high / 2;
        var position = coordinates[low..Math.Min(coordinates.Length, high + 1)].BinarySearch(end);
        return low + (position < 0 ? ~position : position);
    }
}
