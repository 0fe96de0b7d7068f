using ContinuousDL.Randomness;

namespace ContinuousDL.Sampling;

/// <summary>Draws indices from an interval, every one equally likely.</summary>
/// <remarks>Allocates nothing once its scratch space has the size of the batch. Not thread-safe.</remarks>
public sealed class UniformDrawing
{
    private readonly IndexSet drawn = new();

    /// <summary>Fills places with indices from [first, end).</summary>
    /// <param name="random">Where chance comes from.</param>
    /// <param name="first">The first index.</param>
    /// <param name="end">One past the last index.</param>
    /// <param name="withReplacement">Whether an index may be drawn more than once.</param>
    /// <param name="places">Receives the indices.</param>
    /// <returns>How many places were filled: all of them, or, without replacement, no more than there are indices.</returns>
    public int Draw(RandomSource random, long first, long end, bool withReplacement, Span<long> places)
    {
        ArgumentNullException.ThrowIfNull(random);
        var count = end - first;
        if (count <= 0) return 0;
        if (withReplacement)
        {
            foreach (ref var place in places) place = first + random.NextBelow(count);
            return places.Length;
        }

        if (count <= places.Length)
        {
            for (var i = 0; i < count; i++) places[i] = first + i;
            return (int)count;
        }

        DrawDistinct(random, first, count, places);
        return places.Length;
    }

    /// <summary>Floyd's algorithm (Bentley, "A sample of brilliance", 1987): one random number per place, whatever the count.</summary>
    private void DrawDistinct(RandomSource random, long first, long count, Span<long> places)
    {
        drawn.Reset(places.Length);
        for (var i = 0; i < places.Length; i++)
        {
            var newest = count - places.Length + i;
            var index = random.NextBelow(newest + 1);
            if (!drawn.Add(index))
            {
                index = newest;
                drawn.Add(index);
            }

            places[i] = first + index;
        }
    }
}
