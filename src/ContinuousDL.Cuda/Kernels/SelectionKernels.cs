using ILGPU;
using static ContinuousDL.Cuda.Kernels.SelectionState;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>
/// The kernels of an exact top-k by magnitude: the selection of <see cref="Compression.TopKCompressor"/>, on a device.
/// </summary>
/// <remarks>
/// <para>
/// In the order in which they run: <see cref="Begin"/>; for each tensor one of <see cref="AccumulationKernels"/>, which
/// collects the candidates above a floor; three times <see cref="Histogram"/> and <see cref="FindDigit"/>, which find the
/// k-th magnitude digit by digit; <see cref="CountTiles"/>, <see cref="ScanTiles"/> and <see cref="Compact"/>, which write what
/// is selected in ascending order. The floor is a guess. Where it was too high or too low, every kernel sees it from the state
/// and looks at the whole vector in place of the candidates, without the host.
/// </para>
/// <para>
/// The vector is cut into tiles of at most <see cref="TileSize"/> coordinates, none of which crosses tensors. The candidates
/// of a tile lie together and in order, so that the order of the result is that of the tiles, and doesn't depend on which group
/// found its candidates first. Atomics only count and reserve room; nothing in the result depends on their order.
/// </para>
/// <para>Any number of groups of any size up to <see cref="GreatestGroup"/> gives the same result.</para>
/// </remarks>
internal static class SelectionKernels
{
    /// <summary>The greatest number of coordinates in a tile; a multiple of 32.</summary>
    public const int TileSize = 4096;

    /// <summary>The greatest number of threads in a group.</summary>
    public const int GreatestGroup = 1024;

    /// <summary>The bits of a float that make up its magnitude.</summary>
    public const int Mask = int.MaxValue;

    /// <summary>The greatest number of values that a digit has.</summary>
    public const int GreatestBins = 1 << 11;

    /// <summary>The words of a bitmap that has a bit for each coordinate of a tile.</summary>
    public const int BitmapWords = TileSize / 32;

    private const int Infinity = 0x7f800000;

    /// <summary>Prepares the state for a selection. One group.</summary>
    /// <param name="state">The state, see <see cref="SelectionState"/>.</param>
    /// <param name="histogram"><see cref="GreatestBins"/> counts.</param>
    /// <param name="k">How many to select.</param>
    public static void Begin(ArrayView<int> state, ArrayView<int> histogram, int k)
    {
        for (var i = Group.IdxX; i < SelectionState.Length; i += Group.DimX) state[i] = i == Rank ? k : 0;
        for (var i = Group.IdxX; i < GreatestBins; i += Group.DimX) histogram[i] = 0;
    }

    /// <summary>Counts how often each value of a digit occurs among the magnitudes whose higher digits are known already.</summary>
    /// <param name="vector">The whole vector.</param>
    /// <param name="state">The state.</param>
    /// <param name="candidates">The candidates' bits.</param>
    /// <param name="histogram">The counts, to be added to.</param>
    /// <param name="k">How many to select.</param>
    /// <param name="floor">The magnitude that candidates are above.</param>
    /// <param name="shift">The lowest bit of the digit.</param>
    /// <param name="digitBits">The number of its bits.</param>
    public static void Histogram(
        ArrayView<float> vector, ArrayView<int> state, ArrayView<int> candidates, ArrayView<int> histogram, int k, int floor, int shift, int digitBits)
    {
        var whole = NeedsWholeVector(state, candidates.IntLength, k, floor);
        var total = whole ? vector.Length : state[Candidates];
        var first = ((long)Grid.IdxX * Group.DimX) + Group.IdxX;
        if (first - Group.IdxX >= total) return;

        var counts = SharedMemory.Allocate<int>(GreatestBins);
        var bins = 1 << digitBits;
        for (var bin = Group.IdxX; bin < bins; bin += Group.DimX) counts[bin] = 0;
        Group.Barrier();

        var known = state[Threshold] >> (shift + digitBits);
        for (var i = first; i < total; i += (long)Grid.DimX * Group.DimX)
        {
            var magnitude = whole ? Magnitude(vector[i]) : candidates[i] & Mask;
            if (magnitude == 0 || magnitude >> (shift + digitBits) != known) continue;
            Atomic.Add(ref counts[(magnitude >> shift) & (bins - 1)], 1);
        }

        Group.Barrier();
        for (var bin = Group.IdxX; bin < bins; bin += Group.DimX)
        {
            if (counts[bin] != 0) Atomic.Add(ref histogram[bin], counts[bin]);
        }
    }

    /// <summary>Finds the digit of the k-th magnitude in a histogram, and clears the histogram. One group.</summary>
    /// <param name="state">The state.</param>
    /// <param name="histogram">The counts.</param>
    /// <param name="shift">The lowest bit of the digit.</param>
    /// <param name="digitBits">The number of its bits.</param>
    public static void FindDigit(ArrayView<int> state, ArrayView<int> histogram, int shift, int digitBits)
    {
        var sums = SharedMemory.Allocate<int>(GreatestGroup);
        var share = ((1 << digitBits) + Group.DimX - 1) / Group.DimX;
        var begin = IntrinsicMath.Min(Group.IdxX * share, 1 << digitBits);
        var end = IntrinsicMath.Min(begin + share, 1 << digitBits);
        var own = 0;
        for (var bin = begin; bin < end; bin++) own += histogram[bin];
        sums[Group.IdxX] = own;
        var rank = state[Rank];
        var known = state[Threshold];
        Group.Barrier();

        // Each thread adds up those above it for itself: reads of shared memory that don't wait for one another.
        var above = 0;
        for (var thread = Group.IdxX + 1; thread < Group.DimX; thread++) above += sums[thread];
        if (rank > above && rank <= above + own)
        {
            var bin = end - 1;
            while (above + histogram[bin] < rank)
            {
                above += histogram[bin];
                bin--;
            }

            state[Threshold] = known | (bin << shift);
            state[Rank] = rank - above;
        }

        // Only the first digit can run short: then there are fewer than k nonzero values.
        if (Group.IdxX == 0 && rank > above + own) state[Rank] = 0;
        for (var bin = begin; bin < end; bin++) histogram[bin] = 0;
    }

    /// <summary>Counts, in each tile, the values above the k-th magnitude and those equal to it.</summary>
    /// <param name="vector">The whole vector.</param>
    /// <param name="state">The state.</param>
    /// <param name="candidates">The candidates' bits.</param>
    /// <param name="tileCoordinates">The first coordinate of each tile, and the number of coordinates.</param>
    /// <param name="tileStarts">Where the candidates of each tile start.</param>
    /// <param name="tileCounts">How many each has.</param>
    /// <param name="above">Receives the number above, for each tile.</param>
    /// <param name="equal">Receives the number equal, for each tile.</param>
    /// <param name="k">How many to select.</param>
    /// <param name="floor">The magnitude that candidates are above.</param>
    public static void CountTiles(
        ArrayView<float> vector,
        ArrayView<int> state,
        ArrayView<int> candidates,
        ArrayView<int> tileCoordinates,
        ArrayView<int> tileStarts,
        ArrayView<int> tileCounts,
        ArrayView<int> above,
        ArrayView<int> equal,
        int k,
        int floor)
    {
        var tiles = above.IntLength;
        var threshold = state[Threshold];
        if (!NeedsWholeVector(state, candidates.IntLength, k, floor))
        {
            // A tile has a few candidates at most, so a thread does a whole one.
            for (var tile = (Grid.IdxX * Group.DimX) + Group.IdxX; tile < tiles; tile += Grid.DimX * Group.DimX)
            {
                var (more, same) = (0, 0);
                var end = tileStarts[tile] + tileCounts[tile];
                for (var c = tileStarts[tile]; c < end; c++)
                {
                    var magnitude = candidates[c] & Mask;
                    if (magnitude > threshold) more++;
                    if (magnitude == threshold) same++;
                }

                above[tile] = more;
                equal[tile] = same;
            }

            return;
        }

        var counts = SharedMemory.Allocate<int>(2);
        for (var tile = Grid.IdxX; tile < tiles; tile += Grid.DimX)
        {
            if (Group.IdxX == 0)
            {
                counts[0] = 0;
                counts[1] = 0;
            }

            Group.Barrier();
            var (more, same) = (0, 0);
            var begin = tileCoordinates[tile];
            var length = tileCoordinates[tile + 1] - begin;
            for (var i = Group.IdxX; i < length; i += Group.DimX)
            {
                var magnitude = Magnitude(vector[begin + i]);
                if (magnitude > threshold) more++;
                if (magnitude == threshold) same++;
            }

            if (more > 0) Atomic.Add(ref counts[0], more);
            if (same > 0) Atomic.Add(ref counts[1], same);
            Group.Barrier();
            if (Group.IdxX == 0)
            {
                above[tile] = counts[0];
                equal[tile] = counts[1];
            }
        }
    }

    /// <summary>Turns the tiles' counts into where their results start, and how many of the equal ones each may take. One group.</summary>
    /// <param name="state">The state.</param>
    /// <param name="above">The number above the threshold in each tile; receives where its results start.</param>
    /// <param name="equal">The number equal to it; receives how many of them are selected at most.</param>
    /// <param name="capacity">The room for candidates.</param>
    /// <param name="k">How many to select.</param>
    /// <param name="floor">The magnitude that candidates are above.</param>
    public static void ScanTiles(ArrayView<int> state, ArrayView<int> above, ArrayView<int> equal, int capacity, int k, int floor)
    {
        var sums = SharedMemory.Allocate<int>(2 * GreatestGroup);
        var tiles = above.IntLength;
        var share = (tiles + Group.DimX - 1) / Group.DimX;
        var begin = IntrinsicMath.Min(Group.IdxX * share, tiles);
        var end = IntrinsicMath.Min(begin + share, tiles);
        var (more, same) = (0, 0);
        for (var tile = begin; tile < end; tile++)
        {
            more += above[tile];
            same += equal[tile];
        }

        sums[Group.IdxX] = more;
        sums[GreatestGroup + Group.IdxX] = same;
        Group.Barrier();

        (more, same) = (0, 0);
        for (var thread = 0; thread < Group.IdxX; thread++)
        {
            more += sums[thread];
            same += sums[GreatestGroup + thread];
        }

        var ties = state[Rank];
        for (var tile = begin; tile < end; tile++)
        {
            var (moreHere, sameHere) = (above[tile], equal[tile]);
            above[tile] = more + IntrinsicMath.Min(same, ties);
            equal[tile] = IntrinsicMath.Max(ties - same, 0);
            more += moreHere;
            same += sameHere;
        }

        if (Group.IdxX != Group.DimX - 1) return;
        state[Selected] = more + IntrinsicMath.Min(same, ties);
        state[WholeVector] = NeedsWholeVector(state, capacity, k, floor) ? 1 : 0;
    }

    /// <summary>Writes what is selected, in ascending order, and puts zeros in its place if asked to.</summary>
    /// <param name="vector">The whole vector.</param>
    /// <param name="state">The state.</param>
    /// <param name="indices">The candidates' coordinates.</param>
    /// <param name="candidates">The candidates' bits.</param>
    /// <param name="tileCoordinates">The first coordinate of each tile, and the number of coordinates.</param>
    /// <param name="tileStarts">Where the candidates of each tile start.</param>
    /// <param name="tileCounts">How many each has.</param>
    /// <param name="places">Where the results of each tile start.</param>
    /// <param name="ties">How many equal to the threshold each tile may take.</param>
    /// <param name="selected">Receives the coordinates, at least k long.</param>
    /// <param name="values">Receives the values, likewise.</param>
    /// <param name="k">How many to select.</param>
    /// <param name="floor">The magnitude that candidates are above.</param>
    /// <param name="release">1: what is selected becomes zero in the vector. 0: it stays.</param>
    public static void Compact(
        ArrayView<float> vector,
        ArrayView<int> state,
        ArrayView<int> indices,
        ArrayView<int> candidates,
        ArrayView<int> tileCoordinates,
        ArrayView<int> tileStarts,
        ArrayView<int> tileCounts,
        ArrayView<int> places,
        ArrayView<int> ties,
        ArrayView<int> selected,
        ArrayView<float> values,
        int k,
        int floor,
        int release)
    {
        var threshold = state[Threshold];
        if (!NeedsWholeVector(state, candidates.IntLength, k, floor))
        {
            for (var tile = (Grid.IdxX * Group.DimX) + Group.IdxX; tile < places.IntLength; tile += Grid.DimX * Group.DimX)
            {
                var (place, left) = (places[tile], ties[tile]);
                var end = tileStarts[tile] + tileCounts[tile];
                for (var c = tileStarts[tile]; c < end; c++)
                {
                    var magnitude = candidates[c] & Mask;
                    if (magnitude < threshold || (magnitude == threshold && left == 0)) continue;
                    if (magnitude == threshold) left--;
                    Take(vector, state, indices[c], selected, values, place, release);
                    place++;
                }
            }

            return;
        }

        var bitmap = SharedMemory.Allocate<int>(2 * BitmapWords);
        for (var tile = Grid.IdxX; tile < places.IntLength; tile += Grid.DimX)
        {
            for (var word = Group.IdxX; word < 2 * BitmapWords; word += Group.DimX) bitmap[word] = 0;
            Group.Barrier();
            var begin = tileCoordinates[tile];
            var length = tileCoordinates[tile + 1] - begin;
            for (var i = Group.IdxX; i < length; i += Group.DimX)
            {
                var magnitude = Magnitude(vector[begin + i]);
                if (magnitude > threshold) Atomic.Or(ref bitmap[i >> 5], 1 << (i & 31));
                if (magnitude == threshold) Atomic.Or(ref bitmap[BitmapWords + (i >> 5)], 1 << (i & 31));
            }

            Group.Barrier();
            for (var word = Group.IdxX; word < BitmapWords; word += Group.DimX)
            {
                var (more, same) = (bitmap[word], bitmap[BitmapWords + word]);
                if ((more | same) == 0) continue;
                var (before, sameBefore) = (0, 0);
                for (var w = 0; w < word; w++)
                {
                    before += IntrinsicMath.PopCount(bitmap[w]);
                    sameBefore += IntrinsicMath.PopCount(bitmap[BitmapWords + w]);
                }

                var left = IntrinsicMath.Max(ties[tile] - sameBefore, 0);
                var place = places[tile] + before + IntrinsicMath.Min(sameBefore, ties[tile]);
                for (var rest = more | same; rest != 0; rest &= rest - 1)
                {
                    var bit = IntrinsicMath.TrailingZeroCount(rest);
                    var tie = (same >> bit) & 1;
                    if (tie > left) continue;
                    left -= tie;
                    Take(vector, state, begin + (word << 5) + bit, selected, values, place, release);
                    place++;
                }
            }

            Group.Barrier();
        }
    }

    /// <summary>The number of tiles of a part.</summary>
    /// <param name="length">The number of its coordinates.</param>
    public static int TileCount(int length) => (length / TileSize) + (length % TileSize == 0 ? 0 : 1);

    /// <summary>A value's magnitude, as an integer that is the greater the greater it is.</summary>
    /// <param name="value">The value.</param>
    public static int Magnitude(float value) => (int)Interop.FloatAsInt(value) & Mask;

    /// <summary>Whether the candidates don't do: too many for their room, or too few though there may be more below the floor.</summary>
    private static bool NeedsWholeVector(ArrayView<int> state, int capacity, int k, int floor) =>
        state[Candidates] > capacity || (state[Candidates] < k && floor > 0);

    private static void Take(ArrayView<float> vector, ArrayView<int> state, int i, ArrayView<int> selected, ArrayView<float> values, int place, int release)
    {
        var value = vector[i];
        selected[place] = i;
        values[place] = value;

        // Whoever finds one says the same.
        if (Magnitude(value) >= Infinity) state[NonFinite] = 1;
        if (release != 0) vector[i] = 0;
    }
}
