namespace ContinuousDL.History;

/// <summary>The checks that every history makes of the indices it is given.</summary>
internal static class HistoryIndices
{
    /// <exception cref="ArgumentException">There are none.</exception>
    /// <exception cref="ArgumentOutOfRangeException">One is not in [first, end).</exception>
    public static void CheckKept(ReadOnlySpan<long> indices, long first, long end)
    {
        if (indices.IsEmpty) throw new ArgumentException("There are no indices; a batch has at least one sample.", nameof(indices));
        foreach (var index in indices)
        {
            if (index >= first && index < end) continue;
            var reason = index >= 0 && index < first ? "was forgotten" : "does not exist";
            throw new ArgumentOutOfRangeException(nameof(indices), index, $"Sample {index} {reason}; the history holds [{first}, {end}).");
        }
    }
}
