using ContinuousDL.Randomness;

namespace ContinuousDL.Compression;

/// <summary>
/// Draws k of the numbers below n without replacement, in ascending order, every set of k equally likely, at a cost of O(k)
/// whatever n (Floyd's method, Bentley and Floyd 1987).
/// </summary>
/// <remarks>
/// Implementation note: the set that the method needs is a hash table whose hash is the number itself, scaled down to the
/// table. A random set spreads over it evenly, and reading the table from the front gives the numbers almost in order.
/// Not thread-safe: the table is used again.
/// </remarks>
public sealed class RandomSubset
{
    private const int Empty = -1;

    private int[] table = [];

    /// <summary>Draws as many numbers as <paramref name="subset"/> holds.</summary>
    /// <param name="n">The numbers are 0 to n − 1.</param>
    /// <param name="subset">Receives the k ≤ n numbers, ascending and distinct.</param>
    /// <param name="random">Where chance comes from.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="n"/> is smaller than the subset.</exception>
    public void Draw(int n, Span<int> subset, RandomSource random)
    {
        ArgumentNullException.ThrowIfNull(random);
        ArgumentOutOfRangeException.ThrowIfLessThan(n, subset.Length);
        var k = subset.Length;
        if (k == 0) return;

        // k places behind the 2k that a number can hash to: probing then never has to go round to the front.
        var (home, places) = (2L * k, checked(3 * k));
        if (table.Length < places) table = new int[places];
        var slots = table.AsSpan(0, places);
        slots.Fill(Empty);
        for (var j = n - k; j < n; j++)
        {
            if (!TryAdd(slots, home, n, (int)random.NextBelow(j + 1L))) TryAdd(slots, home, n, j);
        }

        var count = 0;
        foreach (var number in slots)
        {
            if (number == Empty) continue;
            var place = count++;
            for (; place > 0 && subset[place - 1] > number; place--) subset[place] = subset[place - 1];
            subset[place] = number;
        }
    }

    private static bool TryAdd(Span<int> slots, long home, int n, int number)
    {
        var place = (int)(number * home / n);
        for (; slots[place] != Empty; place++)
        {
            if (slots[place] == number) return false;
        }

        slots[place] = number;
        return true;
    }
}
