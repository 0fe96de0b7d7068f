using ContinuousDL.Replication.Models;
using ILGPU;
using ILGPU.Util;
using static ContinuousDL.Cuda.Kernels.SelectionKernels;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>
/// The kernels that go over all weights: add a gradient or the optimizer's update to what is owed, and collect the coordinates
/// that a selection may want. The tensors may be float32, bfloat16 or float16; what is owed is float32.
/// </summary>
/// <remarks>
/// <para>
/// Arithmetic is that of <see cref="Deployment.UpdateCompression"/> over <see cref="Optimization.TorchOptimizerRule"/>, bit for bit:
/// an update is rounded to the tensor's dtype before it is added.
/// </para>
/// <para>Any number of groups of any size up to <see cref="GreatestGroup"/> gives the same result.</para>
/// </remarks>
internal static class AccumulationKernels
{
    /// <summary>What an accumulation does to coordinates, and which of the sums are above a floor.</summary>
    private interface IAccumulation
    {
        /// <summary>How many coordinates are done at once where everything lies at multiples of 16 bytes.</summary>
        int PerLoad { get; }

        /// <summary>Does one coordinate. 1: the sum is above the floor.</summary>
        int One(int i, int floor);

        /// <summary>Does so many coordinates as are done at once. A bit for each, the first in the lowest.</summary>
        int Block(int block, int floor);
    }

    /// <summary>
    /// Adds a gradient to a part of the residual, and collects the coordinates of the part whose magnitude is then above a floor.
    /// </summary>
    /// <param name="gradient">The gradient, as long as the residual; or empty: nothing is added.</param>
    /// <param name="residual">The part of the residual.</param>
    /// <param name="state">The state, see <see cref="SelectionState"/>.</param>
    /// <param name="indices">Receives the candidates' coordinates.</param>
    /// <param name="bits">Receives their values' bits; as long as <paramref name="indices"/>.</param>
    /// <param name="tileStarts">Receives where the candidates of each of the part's tiles start.</param>
    /// <param name="tileCounts">Receives how many each has.</param>
    /// <param name="offset">The coordinate of the residual's first value.</param>
    /// <param name="floor">The magnitude to be above.</param>
    /// <param name="aligned">1: gradient and residual start at multiples of 16 bytes, and are read and written by so many. 0: one by one.</param>
    public static void Accumulate<T, TElements>(
        ArrayView<T> gradient,
        ArrayView<float> residual,
        ArrayView<int> state,
        ArrayView<int> indices,
        ArrayView<int> bits,
        ArrayView<int> tileStarts,
        ArrayView<int> tileCounts,
        int offset,
        int floor,
        int aligned)
        where T : unmanaged
        where TElements : struct, IElements<T> =>
        Collect(new Addition<T, TElements>(gradient, residual), residual, new Candidates(state, indices, bits, tileStarts, tileCounts), offset, floor, aligned);

    /// <summary>
    /// Takes the optimizer's step back out of a tensor, adds it to a part of the residual, moves the tensor ahead by what is then
    /// owed, and collects the coordinates of the part whose magnitude is above a floor.
    /// </summary>
    /// <remarks>
    /// With deployed weights w, owed updates e and look-ahead α, the tensor was at y = w + α·e before the step and is at y' now:
    /// e += y' − y; y = w + α·e. So nobody has to keep y.
    /// </remarks>
    /// <param name="trained">The tensor, y' and then y.</param>
    /// <param name="deployed">The deployed weights, w.</param>
    /// <param name="residual">The part of the residual, e.</param>
    /// <param name="state">The state, see <see cref="SelectionState"/>.</param>
    /// <param name="indices">Receives the candidates' coordinates.</param>
    /// <param name="bits">Receives their values' bits; as long as <paramref name="indices"/>.</param>
    /// <param name="tileStarts">Receives where the candidates of each of the part's tiles start.</param>
    /// <param name="tileCounts">Receives how many each has.</param>
    /// <param name="offset">The coordinate of the residual's first value.</param>
    /// <param name="floor">The magnitude to be above.</param>
    /// <param name="aligned">1: tensors and residual start at multiples of 16 bytes, and are read and written by so many. 0: one by one.</param>
    /// <param name="lookahead">α. With 0, y is w whatever is owed.</param>
    public static void TakeBack<T, TElements>(
        ArrayView<T> trained,
        ArrayView<T> deployed,
        ArrayView<float> residual,
        ArrayView<int> state,
        ArrayView<int> indices,
        ArrayView<int> bits,
        ArrayView<int> tileStarts,
        ArrayView<int> tileCounts,
        int offset,
        int floor,
        int aligned,
        float lookahead)
        where T : unmanaged
        where TElements : struct, IElements<T> =>
        Collect(
            new Difference<T, TElements>(trained, deployed, residual, lookahead), residual, new Candidates(state, indices, bits, tileStarts, tileCounts), offset, floor, aligned);

    private static float Ahead(float weight, float owed, float lookahead) => weight + (lookahead * owed);

    private static int Above(float value, int floor) => Utilities.Select(Magnitude(value) > floor, 1, 0);

    private static int Above(Quad values, int floor) =>
        Above(values.A, floor) | (Above(values.B, floor) << 1) | (Above(values.C, floor) << 2) | (Above(values.D, floor) << 3);

    /// <summary>Goes over a part tile by tile.</summary>
    private static void Collect<TAccumulation>(TAccumulation accumulation, ArrayView<float> residual, Candidates candidates, int offset, int floor, int aligned)
        where TAccumulation : struct, IAccumulation
    {
        var bitmap = SharedMemory.Allocate<int>(2 * BitmapWords);
        var found = SharedMemory.Allocate<int>(4);
        for (var word = Group.IdxX; word < 2 * BitmapWords; word += Group.DimX) bitmap[word] = 0;
        for (var i = Group.IdxX; i < 4; i += Group.DimX) found[i] = 0;
        Group.Barrier();

        var length = residual.IntLength;
        var parity = 0;
        for (var tile = Grid.IdxX; tile < TileCount(length); tile += Grid.DimX)
        {
            var begin = tile * TileSize;
            var inTile = IntrinsicMath.Min(TileSize, length - begin);
            var blocks = aligned == 0 ? 0 : inTile / accumulation.PerLoad;
            for (var block = Group.IdxX; block < blocks; block += Group.DimX)
            {
                var above = accumulation.Block((begin / accumulation.PerLoad) + block, floor);
                if (above != 0) Mark(bitmap, found, parity, block * accumulation.PerLoad, above, IntrinsicMath.PopCount(above));
            }

            for (var i = (blocks * accumulation.PerLoad) + Group.IdxX; i < inTile; i += Group.DimX)
            {
                if (accumulation.One(begin + i, floor) != 0) Mark(bitmap, found, parity, i, 1, 1);
            }

            Append(residual, begin, offset, tile, parity, bitmap, found, candidates);
            parity = 1 - parity;
        }
    }

    private static void Mark(ArrayView<int> bitmap, ArrayView<int> found, int parity, int i, int above, int count)
    {
        Atomic.Or(ref bitmap[(parity * BitmapWords) + (i >> 5)], above << (i & 31));
        Atomic.Add(ref found[parity], count);
    }

    /// <summary>
    /// Reserves room for the candidates that a tile has in the bitmap, with one atomic for the group, and writes them in order.
    /// </summary>
    /// <remarks>Two bitmaps take turns, so that two barriers a tile are enough: one is cleared while the other is read.</remarks>
    private static void Append(
        ArrayView<float> residual, int begin, int offset, int tile, int parity, ArrayView<int> bitmap, ArrayView<int> found, Candidates candidates)
    {
        Group.Barrier();
        var count = found[parity];
        if (Group.IdxX == 0)
        {
            var start = count == 0 ? 0 : Atomic.Add(ref candidates.State[SelectionState.Candidates], count);
            found[2 + parity] = start;
            found[1 - parity] = 0;
            candidates.TileStarts[tile] = start;
            candidates.TileCounts[tile] = count;
        }

        for (var word = Group.IdxX; word < BitmapWords; word += Group.DimX) bitmap[((1 - parity) * BitmapWords) + word] = 0;
        Group.Barrier();
        var reserved = found[2 + parity];
        var room = candidates.Indices.IntLength;
        if (count == 0 || reserved >= room) return;
        for (var word = Group.IdxX; word < BitmapWords; word += Group.DimX)
        {
            var rest = bitmap[(parity * BitmapWords) + word];
            if (rest == 0) continue;
            var place = reserved;
            for (var w = 0; w < word; w++) place += IntrinsicMath.PopCount(bitmap[(parity * BitmapWords) + w]);
            for (; rest != 0 && place < room; rest &= rest - 1)
            {
                var i = begin + (word << 5) + IntrinsicMath.TrailingZeroCount(rest);
                candidates.Indices[place] = offset + i;
                candidates.Bits[place] = (int)Interop.FloatAsInt(residual[i]);
                place++;
            }
        }
    }

    /// <summary>e += g.</summary>
    private readonly struct Addition<T, TElements>(ArrayView<T> gradient, ArrayView<float> residual) : IAccumulation
        where T : unmanaged
        where TElements : struct, IElements<T>
    {
        public int PerLoad => TElements.PerLoad;

        public int One(int i, int floor)
        {
            var sum = residual[i];
            if (gradient.Length > 0)
            {
                sum += TElements.Read(gradient[i]);
                residual[i] = sum;
            }

            return Above(sum, floor);
        }

        public int Block(int block, int floor)
        {
            var owed = residual.Cast<Quad>();
            var place = block * (TElements.PerLoad / 4);
            var first = owed[place];
            var last = TElements.PerLoad == 8 ? owed[place + 1] : default;
            if (gradient.Length > 0)
            {
                var added = gradient.Cast<Words>()[block];
                first = Sum(first, TElements.First(added));
                owed[place] = first;
                if (TElements.PerLoad == 8)
                {
                    last = Sum(last, TElements.Last(added));
                    owed[place + 1] = last;
                }
            }

            return TElements.PerLoad == 8 ? Above(first, floor) | (Above(last, floor) << 4) : Above(first, floor);
        }

        private static Quad Sum(Quad a, Quad b) => new() { A = a.A + b.A, B = a.B + b.B, C = a.C + b.C, D = a.D + b.D };
    }

    /// <summary>e += y' − y; y = w + α·e.</summary>
    private readonly struct Difference<T, TElements>(ArrayView<T> trained, ArrayView<T> deployed, ArrayView<float> residual, float lookahead) : IAccumulation
        where T : unmanaged
        where TElements : struct, IElements<T>
    {
        public int PerLoad => TElements.PerLoad;

        public int One(int i, int floor)
        {
            var element = deployed[i];
            var weight = TElements.Read(element);
            var sum = Sum(TElements.Read(trained[i]), weight, residual[i]);
            residual[i] = sum;
            trained[i] = lookahead == 0 ? element : TElements.Nearest(Ahead(weight, sum, lookahead));
            return Above(sum, floor);
        }

        public int Block(int block, int floor)
        {
            var owed = residual.Cast<Quad>();
            var moved = trained.Cast<Words>();
            var place = block * (TElements.PerLoad / 4);
            var elements = deployed.Cast<Words>()[block];
            var after = moved[block];
            var firstWeights = TElements.First(elements);
            var lastWeights = TElements.Last(elements);
            var first = Sum(TElements.First(after), firstWeights, owed[place]);
            var last = TElements.PerLoad == 8 ? Sum(TElements.Last(after), lastWeights, owed[place + 1]) : default;
            owed[place] = first;
            if (TElements.PerLoad == 8) owed[place + 1] = last;
            moved[block] = lookahead == 0 ? elements : TElements.Nearest(AllAhead(firstWeights, first), AllAhead(lastWeights, last));
            return TElements.PerLoad == 8 ? Above(first, floor) | (Above(last, floor) << 4) : Above(first, floor);
        }

        /// <summary>What is owed of a coordinate after the step.</summary>
        private float Sum(float after, float weight, float owed)
        {
            var before = Utilities.Select(lookahead == 0, weight, TElements.Round(Ahead(weight, owed, lookahead)));
            return owed + TElements.Round(after - before);
        }

        private Quad Sum(Quad after, Quad weights, Quad owed) => new()
        {
            A = Sum(after.A, weights.A, owed.A),
            B = Sum(after.B, weights.B, owed.B),
            C = Sum(after.C, weights.C, owed.C),
            D = Sum(after.D, weights.D, owed.D),
        };

        private Quad AllAhead(Quad weights, Quad owed) => new()
        {
            A = Ahead(weights.A, owed.A, lookahead),
            B = Ahead(weights.B, owed.B, lookahead),
            C = Ahead(weights.C, owed.C, lookahead),
            D = Ahead(weights.D, owed.D, lookahead),
        };
    }

    /// <summary>Where candidates go.</summary>
    private readonly struct Candidates(ArrayView<int> state, ArrayView<int> indices, ArrayView<int> bits, ArrayView<int> tileStarts, ArrayView<int> tileCounts)
    {
        public ArrayView<int> State { get; } = state;

        public ArrayView<int> Indices { get; } = indices;

        public ArrayView<int> Bits { get; } = bits;

        public ArrayView<int> TileStarts { get; } = tileStarts;

        public ArrayView<int> TileCounts { get; } = tileCounts;
    }
}
