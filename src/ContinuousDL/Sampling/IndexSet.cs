using System.Numerics;

namespace ContinuousDL.Sampling;

/// <summary>A small set of indices that is used again for every batch: open addressing, at most half full.</summary>
public sealed class IndexSet
{
    private long[] slots = new long[2];
    private int shift = 63;
    private int room;

    /// <summary>Empties the set and makes room.</summary>
    /// <param name="count">The most indices that will be added, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="count"/> is negative or above 2^29.</exception>
    public void Reset(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, 1 << 29);
        room = count;
        var size = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(count, 1)) * 2;
        if (slots.Length < size) slots = new long[size];
        else Array.Clear(slots);
        shift = 64 - BitOperations.Log2((uint)slots.Length);
    }

    /// <summary>Adds an index.</summary>
    /// <param name="index">The index, not negative.</param>
    /// <returns>False when it was there already.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="index"/> is negative.</exception>
    /// <exception cref="InvalidOperationException">The set has as many indices as <see cref="Reset"/> made room for.</exception>
    public bool Add(long index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);

        // Zero marks a free slot.
        var key = index + 1;
        var slot = (int)((ulong)key * 0x9e3779b97f4a7c15 >> shift);
        while (slots[slot] != 0)
        {
            if (slots[slot] == key) return false;
            slot = (slot + 1) & (slots.Length - 1);
        }

        if (--room < 0) throw new InvalidOperationException("The set is full: it holds as many indices as it was reset for.");
        slots[slot] = key;
        return true;
    }
}
