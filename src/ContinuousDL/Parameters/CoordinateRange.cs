namespace ContinuousDL.Parameters;

/// <summary>Cuts ascending coordinates at the borders of tensors.</summary>
internal static class CoordinateRange
{
    /// <summary>How many of the ascending <paramref name="coordinates"/> are below <paramref name="end"/>.</summary>
    public static int CountBelow(ReadOnlySpan<int> coordinates, int end)
    {
        if (coordinates.IsEmpty || coordinates[^1] < end) return coordinates.Length;
        var position = coordinates.BinarySearch(end);
        return position < 0 ? ~position : position;
    }
}
