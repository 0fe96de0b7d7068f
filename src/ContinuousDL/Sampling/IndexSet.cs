using System.Numerics;

namespace ContinuousDL.Sampling;

/// <summary>A small set of indices that is used again for every batch: open addressing, at most half full.</summary>
internal sealed class IndexSet
{
    private long[] slots = [];
    private int shift;

    /// <summary>Empties the set and makes room.</summary>
    /// <param name="count">The most indices that will be added.</param>
    public void Reset(int count)
    {
        var size = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(count, 1)) * 2;
        if (slots.Length < size) slots = new long[size];
        else Array.Clear(slots);
        shift = 64 - BitOperations.Log2((uint)slots.Length);
    }

    /// <summary>Adds an index.</summary>
    /// <param name="index">The index, not negative.</param>
    /// <returns>False when it was there already.</returns>
    public bool Add(long index)
    {
        // Zero marks a free slot.
        var key = index + 1;
        var slot = (int)((ulong)key * 0x9e3779b97f4a7c15 >> shift);
        while (slots[slot] != 0)
        {
            if (slots[slot] == key) return false;
            slot = (slot + 1) & (slots.Length - 1);
        }

        slots[slot] = key;
        return true;
    }
}
