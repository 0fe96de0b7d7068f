using System.Runtime.InteropServices;
using ContinuousDL.Randomness;
using static ContinuousDL.Compression.MagnitudeScan;

namespace ContinuousDL.Compression;

/// <summary>
/// Selects exactly the k coordinates of largest magnitude in about one pass over the vector, which it can be given block by
/// block while the blocks are in the cache.
/// </summary>
/// <remarks>
/// <para>
/// Among equal magnitudes the lower index is taken; NaN counts as the largest; zeros (of either sign) are never taken, so that
/// fewer than k are selected where fewer are nonzero.
/// </para>
/// <para>
/// Only coordinates above a floor are collected. The floor is a guess, carried over from the last selection in the same slot,
/// that is to let somewhat more than k through. Too low: whenever the collected ones fill their room, they are cut down to
/// little more than the k largest, and the floor moves up to what is below these (or is the smallest of just the k largest: a later
/// coordinate that only equals it loses to the lower indices).
/// Too high, or cutting down becomes too frequent, as it would with values in ascending order: <see cref="Finish"/> passes
/// over the vector again with a floor from a random sample. The guess decides how long it takes, never what is selected.
/// </para>
/// <para>Uses memory for O(k) candidates. Not thread-safe.</para>
/// </remarks>
internal sealed class MagnitudeSelector
{
    private const int LeastSample = 1 << 8, GreatestSample = 1 << 11;

    /// <summary>
    /// The distances between last threshold and next floor, in units of the last bit of a magnitude: 2^23 is a factor of 2.
    /// The distance adapts itself; this is where it starts, and what it stays between.
    /// </summary>
    private const int FirstMargin = 1 << 20, LeastMargin = 1 << 8, GreatestMargin = 1 << 25;

    private readonly MagnitudeRank rank = new();
    private readonly RandomSource sampling = new(0);
    private Guess[] guesses = [];
    private int[] indices = [];
    private int[] values = [];
    private int[] scratch = [];
    private int[] sample = [];
    private int slot, n, k;
    private int floor, scanned, count;

    /// <summary>How many were collected in this pass.</summary>
    private long collected;

    /// <summary>How many more may go through cutting down before a pass with another floor is the cheaper way.</summary>
    private long effort;
    private bool mustRepeat;

    /// <summary>The selected coordinates, ascending. Valid from <see cref="Finish"/> to the next <see cref="Begin"/>.</summary>
    public ReadOnlySpan<int> Indices => indices.AsSpan(0, count);

    /// <summary>The selected values, in the order of the coordinates. Valid as long as <see cref="Indices"/>.</summary>
    public ReadOnlySpan<float> Values => MemoryMarshal.Cast<int, float>(values.AsSpan(0, count));

    /// <summary>How many passes over the vector the last selection took.</summary>
    public int Passes { get; private set; }

    /// <summary>Begins a selection.</summary>
    /// <param name="length">The number of coordinates of the vector, n.</param>
    /// <param name="selected">How many to select, k; at least 0.</param>
    /// <param name="guess">Which of the carried-over guesses to use: one for each tensor that is selected from by itself.</param>
    public void Begin(int length, int selected, int guess = 0)
    {
        if (guess >= guesses.Length) Array.Resize(ref guesses, Math.Max(guess + 1, guesses.Length * 2));
        (slot, n, k) = (guess, length, Math.Min(selected, length));

        var capacity = (int)Math.Min(n, (3L * k) + 1024);
        if (indices.Length < capacity)
        {
            indices = new int[capacity];
            values = new int[capacity];
            scratch = new int[capacity];
        }

        Restart(k < n ? guesses[slot].Floor : 0);
        Passes = 1;

        // Enough for values in random order under any floor, which need four or five rounds of cutting down.
        effort = (n / 24) + (3L * capacity);
    }

    /// <summary>
    /// Looks at the next block. Blocks come in the order of their coordinates, without gaps; if they don't, <see cref="Finish"/>
    /// passes over the vector again.
    /// </summary>
    /// <param name="block">The values from <paramref name="offset"/> on, just as <see cref="Finish"/> will be given them.</param>
    /// <param name="offset">The coordinate of the first value.</param>
    public void Scan(ReadOnlySpan<float> block, int offset)
    {
        mustRepeat |= offset != scanned;
        scanned = offset + block.Length;
        if (k == 0) return;

        while (!mustRepeat)
        {
            var before = count;
            var passed = Collect(block, offset, floor, indices, values, ref count);
            collected += count - before;
            if (passed == block.Length) break;

            block = block[passed..];
            offset += passed;
            effort -= count;
            if (effort < 0) mustRepeat = true;
            else MakeRoom();
        }
    }

    /// <summary>Completes the selection.</summary>
    /// <param name="vector">All n values.</param>
    public void Finish(ReadOnlySpan<float> vector)
    {
        if (k == 0)
        {
            count = 0;
            return;
        }

        var tooLow = effort < 0;
        mustRepeat |= scanned != n;
        var tooHigh = !mustRepeat && IsShort;
        for (var spread = 1.0; mustRepeat || IsShort; spread *= 4)
        {
            Restart(FloorFromSample(vector, spread));
            Passes++;

            // With a floor from a sample there is little to cut down. If chance wills otherwise: it is slow, but comes to an end.
            effort = long.MaxValue;
            Scan(vector, 0);
        }

        if (k < n) CarryOver(tooLow, tooHigh);
    }

    /// <summary>The floor was so high that fewer than k were collected.</summary>
    private bool IsShort => count < k && floor > 0;

    private void Restart(int newFloor) => (floor, scanned, count, collected, mustRepeat) = (newFloor, 0, 0, 0, false);

    /// <summary>
    /// Reduces what was collected to somewhat more than the k largest of it, and moves the floor up accordingly. Which these are
    /// exactly matters at the end only, and takes twice as long to find.
    /// </summary>
    private void MakeRoom()
    {
        if (count < k) return;
        var raised = rank.FindFloor(values.AsSpan(0, count), k, most: k + ((count - k) / 4));
        if (raised < 0)
        {
            CutDown();
            return;
        }

        floor = raised;
        var kept = 0;
        for (var i = 0; i < count; i++)
        {
            (indices[kept], values[kept]) = (indices[i], values[i]);
            kept += (values[i] & Mask) > floor ? 1 : 0;
        }

        count = kept;
    }

    /// <summary>Reduces what was collected to the k largest of it, and moves the floor up to the smallest of these.</summary>
    private void CutDown()
    {
        if (count < k) return;
        (floor, var ties) = rank.Find(values.AsSpan(0, count), k, scratch);
        var kept = 0;

        // Without branches, which would be mispredicted at every third candidate.
        for (var i = 0; i < count; i++)
        {
            var magnitude = values[i] & Mask;
            (indices[kept], values[kept]) = (indices[i], values[i]);
            var tie = (magnitude == floor ? 1 : 0) & (ties > 0 ? 1 : 0);
            ties -= tie;
            kept += (magnitude > floor ? 1 : 0) + tie;
        }

        count = kept;
    }

    /// <summary>Cuts down to the result, and makes of its smallest magnitude the next floor.</summary>
    private void CarryOver(bool tooLow, bool tooHigh)
    {
        CutDown();
        ref var guess = ref guesses[slot];
        var margin = guess.Margin > 0 ? guess.Margin : FirstMargin;
        if (tooLow) margin /= 4;
        else if (tooHigh) margin *= 4;
        else if (collected > (2L * k) + 256) margin /= 2;
        else if (collected < k + (k / 8)) margin += margin / 2;

        guess.Margin = Math.Clamp(margin, LeastMargin, GreatestMargin);
        guess.Floor = count < k ? 0 : Math.Max(0, floor - 1 - guess.Margin);
    }

    /// <summary>
    /// A magnitude that, most likely, at least k coordinates are above and few more: that of a rank, in a random sample,
    /// which leaves room for four standard deviations.
    /// </summary>
    private int FloorFromSample(ReadOnlySpan<float> vector, double spread)
    {
        var size = Math.Clamp(n / 32, LeastSample, GreatestSample);
        var expected = (double)k / n * size;
        var place = Math.Ceiling((expected + (4 * Math.Sqrt(expected)) + 4) * spread);
        if (place > size) return 0;

        if (sample.Length < size) sample = new int[size];
        var bits = MemoryMarshal.Cast<float, int>(vector);
        for (var i = 0; i < size; i++) sample[i] = bits[(int)sampling.NextBelow(n)];
        return Math.Max(0, rank.Find(sample.AsSpan(0, size), (int)place, sample).Magnitude - 1);
    }

    /// <summary>What one selection leaves for the next. All zero at first: everything above zero is collected.</summary>
    private struct Guess
    {
        public int Floor;
        public int Margin;
    }
}
