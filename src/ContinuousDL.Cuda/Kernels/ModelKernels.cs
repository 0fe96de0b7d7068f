using ContinuousDL.Replication.Models;
using ILGPU;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>
/// The kernels over a whole model: its digest, what an update would change of it, and reading, writing, copying and adding to
/// chosen coordinates, of all tensors and element sizes in one launch.
/// </summary>
/// <remarks>
/// <para>
/// A model's memory is one view from the lowest address of its tensors to the highest, of which only the tensors themselves are ever
/// touched. Each thread finds the tensor of its coordinate by binary search in a table of <see cref="TensorPlace"/>.
/// </para>
/// <para>
/// Values cross in sections, one for each tensor that has any, packed in the tensor's dtype: the value of the j-th coordinate is the
/// element <c>sections[t] + j</c> of its size, with t the tensor's place in the table.
/// </para>
/// <para>Coordinates are distinct and each is of a tensor in the table. Any number of groups of any size gives the same result.</para>
/// </remarks>
internal static class ModelKernels
{
    private const uint Magnitude = int.MaxValue, Sign = 0x80000000, SingleInfinity = 0x7f800000;
    private const ulong ValueFactor = 0xd6e8feb86659fd93;

    /// <summary>Adds up the digest of a model's state.</summary>
    /// <param name="memory">The model's memory.</param>
    /// <param name="tensors">Its tensors, ascending, without those that are empty.</param>
    /// <param name="digest">One sum, to be added to; wraps around.</param>
    /// <param name="count">The number of coordinates.</param>
    public static void SumDigest(ArrayView<byte> memory, ArrayView<TensorPlace> tensors, ArrayView<ulong> digest, int count)
    {
        var sum = SharedMemory.Allocate<ulong>(1);
        BeginSum(sum);
        var own = 0ul;
        if (First < count)
        {
            var t = Find(tensors, (int)First);
            for (var i = First; i < count; i += Stride)
            {
                while (t + 1 < tensors.IntLength && tensors[t + 1].Start <= i) t++;
                own += Mix(Spread((int)i) + (Load(memory, tensors[t].Size, tensors[t].First + (i - tensors[t].Start)) * ValueFactor));
            }
        }

        EndSum(sum, own, digest);
    }

    /// <summary>Adds up what a model's digest would change by if values were written.</summary>
    /// <param name="memory">The model's memory.</param>
    /// <param name="tensors">Its tensors.</param>
    /// <param name="coordinates">The coordinates.</param>
    /// <param name="sections">Where each tensor's values are.</param>
    /// <param name="values">The new values.</param>
    /// <param name="digest">One sum, to be added to; wraps around.</param>
    public static void DigestChange(
        ArrayView<byte> memory, ArrayView<TensorPlace> tensors, ArrayView<int> coordinates, ArrayView<long> sections, ArrayView<byte> values, ArrayView<ulong> digest)
    {
        var sum = SharedMemory.Allocate<ulong>(1);
        BeginSum(sum);
        var change = 0ul;
        for (var j = First; j < coordinates.Length; j += Stride)
        {
            var t = Find(tensors, coordinates[j]);
            var old = Load(memory, tensors[t].Size, ElementOf(tensors[t], coordinates[j]));
            change += Change(coordinates[j], old, Load(values, tensors[t].Size, sections[t] + j));
        }

        EndSum(sum, change, digest);
    }

    /// <summary>Writes values into a model.</summary>
    /// <param name="memory">The model's memory.</param>
    /// <param name="tensors">Its tensors.</param>
    /// <param name="coordinates">The coordinates.</param>
    /// <param name="sections">Where each tensor's values are.</param>
    /// <param name="values">The values.</param>
    public static void WriteModel(ArrayView<byte> memory, ArrayView<TensorPlace> tensors, ArrayView<int> coordinates, ArrayView<long> sections, ArrayView<byte> values)
    {
        for (var j = First; j < coordinates.Length; j += Stride)
        {
            var t = Find(tensors, coordinates[j]);
            Store(memory, tensors[t].Size, ElementOf(tensors[t], coordinates[j]), Load(values, tensors[t].Size, sections[t] + j));
        }
    }

    /// <summary>Reads values of a model.</summary>
    /// <param name="memory">The model's memory.</param>
    /// <param name="tensors">Its tensors.</param>
    /// <param name="coordinates">The coordinates.</param>
    /// <param name="sections">Where each tensor's values belong.</param>
    /// <param name="values">Receives the values.</param>
    public static void ReadModel(ArrayView<byte> memory, ArrayView<TensorPlace> tensors, ArrayView<int> coordinates, ArrayView<long> sections, ArrayView<byte> values)
    {
        for (var j = First; j < coordinates.Length; j += Stride)
        {
            var t = Find(tensors, coordinates[j]);
            Store(values, tensors[t].Size, sections[t] + j, Load(memory, tensors[t].Size, ElementOf(tensors[t], coordinates[j])));
        }
    }

    /// <summary>Copies values from one model into another of the same layout.</summary>
    /// <param name="target">The memory of the model that is written to.</param>
    /// <param name="targetTensors">Its tensors.</param>
    /// <param name="source">The memory of the model that is read from.</param>
    /// <param name="sourceTensors">Its tensors, in the same order.</param>
    /// <param name="coordinates">The coordinates.</param>
    public static void CopyModel(
        ArrayView<byte> target, ArrayView<TensorPlace> targetTensors, ArrayView<byte> source, ArrayView<TensorPlace> sourceTensors, ArrayView<int> coordinates)
    {
        for (var j = First; j < coordinates.Length; j += Stride)
        {
            var t = Find(targetTensors, coordinates[j]);
            var value = Load(source, sourceTensors[t].Size, ElementOf(sourceTensors[t], coordinates[j]));
            Store(target, targetTensors[t].Size, ElementOf(targetTensors[t], coordinates[j]), value);
        }
    }

    /// <summary>
    /// Adds what was selected of a residual to the deployed parameters, rounds, and takes off the residual what was really added:
    /// <see cref="Deployment.DeployedModel.Add"/> on a device. Nothing is changed where something selected is not finite.
    /// </summary>
    /// <param name="memory">The memory of the deployed parameters.</param>
    /// <param name="tensors">The parameters, by their coordinates in the residual.</param>
    /// <param name="residual">The residual.</param>
    /// <param name="state">The state of the selection, see <see cref="SelectionState"/>.</param>
    /// <param name="selected">The selected coordinates of the residual.</param>
    /// <param name="before">Receives the bits of each parameter before, in elements of <paramref name="width"/> bytes.</param>
    /// <param name="after">Receives the bits after, likewise.</param>
    /// <param name="digest">One sum, to which is added what the model's digest changes by; wraps around.</param>
    /// <param name="width">The size of the parameters' largest element.</param>
    public static void AddSelected(
        ArrayView<byte> memory,
        ArrayView<TensorPlace> tensors,
        ArrayView<float> residual,
        ArrayView<int> state,
        ArrayView<int> selected,
        ArrayView<byte> before,
        ArrayView<byte> after,
        ArrayView<ulong> digest,
        int width)
    {
        var sum = SharedMemory.Allocate<ulong>(1);
        BeginSum(sum);
        var change = 0ul;
        var count = state[SelectionState.NonFinite] != 0 ? 0 : state[SelectionState.Selected];
        for (var j = First; j < count; j += Stride)
        {
            var t = Find(tensors, selected[j]);
            var element = ElementOf(tensors[t], selected[j]);
            var old = Load(memory, tensors[t].Size, element);
            var addend = residual[selected[j]];
            var (bits, applied) = Add(tensors[t].Format, old, addend);
            residual[selected[j]] = addend - applied;
            Store(memory, tensors[t].Size, element, bits);
            Store(before, width, j, old);
            Store(after, width, j, bits);
            if (bits != old) change += Change(tensors[t].Offset + (selected[j] - tensors[t].Start), old, bits);
        }

        EndSum(sum, change, digest);
    }

    /// <summary>Puts parameters at w + α·e, rounded to their dtype.</summary>
    /// <param name="targets">The memory of the parameters that are written.</param>
    /// <param name="targetTensors">The parameters, by their coordinates in the residual.</param>
    /// <param name="weights">The memory of the weights, w.</param>
    /// <param name="weightTensors">The weights, in the same order and of the same dtypes.</param>
    /// <param name="residual">The residual, e.</param>
    /// <param name="coordinates">Which coordinates of the residual.</param>
    /// <param name="lookahead">α. With 0, the parameters become w whatever is owed.</param>
    public static void LookAhead(
        ArrayView<byte> targets,
        ArrayView<TensorPlace> targetTensors,
        ArrayView<byte> weights,
        ArrayView<TensorPlace> weightTensors,
        ArrayView<float> residual,
        ArrayView<int> coordinates,
        float lookahead)
    {
        for (var j = First; j < coordinates.Length; j += Stride)
        {
            var t = Find(targetTensors, coordinates[j]);
            var bits = Load(weights, weightTensors[t].Size, ElementOf(weightTensors[t], coordinates[j]));
            if (lookahead != 0) bits = Add(targetTensors[t].Format, bits, lookahead * residual[coordinates[j]]).Bits;
            Store(targets, targetTensors[t].Size, ElementOf(targetTensors[t], coordinates[j]), bits);
        }
    }

    private static long First => ((long)Grid.IdxX * Group.DimX) + Group.IdxX;

    private static long Stride => (long)Grid.DimX * Group.DimX;

    /// <summary>The last tensor that starts at a coordinate or before it.</summary>
    private static int Find(ArrayView<TensorPlace> tensors, int coordinate)
    {
        var (low, high) = (0, tensors.IntLength - 1);
        while (low < high)
        {
            var middle = (low + high + 1) >> 1;
            if (tensors[middle].Start <= coordinate) low = middle;
            else high = middle - 1;
        }

        return low;
    }

    private static long ElementOf(TensorPlace tensor, int coordinate) => tensor.First + (coordinate - tensor.Start);

    private static ulong Load(ArrayView<byte> memory, int size, long element)
    {
        if (size == 4) return memory.Cast<uint>()[element];
        if (size == 2) return memory.Cast<ushort>()[element];
        if (size == 8) return memory.Cast<ulong>()[element];
        return memory[element];
    }

    private static void Store(ArrayView<byte> memory, int size, long element, ulong bits)
    {
        if (size == 4) memory.Cast<uint>()[element] = (uint)bits;
        else if (size == 2) memory.Cast<ushort>()[element] = (ushort)bits;
        else if (size == 8) memory.Cast<ulong>()[element] = bits;
        else memory[element] = (byte)bits;
    }

    /// <summary>
    /// <see cref="Scalars.Add"/>, and for float32 the sum of the deployed model. 16-bit numbers are made and read in integers, so that
    /// a device rounds as the CPU does, whatever its conversions are.
    /// </summary>
    private static (ulong Bits, float Applied) Add(int format, ulong old, float addend)
    {
        if (format == NumberFormat.Double)
        {
            var wide = Interop.IntAsFloat(old);
            var wideSum = wide + addend;
            return (Interop.FloatAsInt(wideSum), (float)(wideSum - wide));
        }

        if (format == NumberFormat.BFloat16)
        {
            var weight = BFloat16Elements.Read((ushort)old);
            var rounded = BFloat16Elements.Nearest(weight + addend);
            return (rounded, BFloat16Elements.Read(rounded) - weight);
        }

        if (format == NumberFormat.Half)
        {
            var weight = Float16Elements.Read((ushort)old);
            var rounded = Float16Elements.Nearest(weight + addend);
            return (rounded, Float16Elements.Read(rounded) - weight);
        }

        var value = Interop.IntAsFloat((uint)old);
        var sum = value + addend;
        var bits = Interop.FloatAsInt(sum);
        if (format == NumberFormat.SingleAsBFloat16) bits = Finite(Interop.FloatAsInt(BFloat16Elements.Round(sum)), bits, 0x7f7f0000);
        if (format == NumberFormat.SingleAsHalf) bits = Finite(Interop.FloatAsInt(Float16Elements.Read(Float16Elements.Nearest(sum))), bits, 0x477fe000);
        return (bits, Interop.IntAsFloat(bits) - value);
    }

    /// <summary>What a float was rounded to, or the largest number there is where it was finite and became infinite.</summary>
    private static uint Finite(uint rounded, uint value, uint largest) =>
        (rounded & Magnitude) >= SingleInfinity && (value & Magnitude) < SingleInfinity ? largest | (value & Sign) : rounded;

    /// <summary>The hash of <see cref="StateDigest"/>, written out again because a kernel may only call what ILGPU translates.</summary>
    private static ulong Change(int coordinate, ulong oldBits, ulong newBits)
    {
        var start = Spread(coordinate);
        return Mix(start + (newBits * ValueFactor)) - Mix(start + (oldBits * ValueFactor));
    }

    private static ulong Spread(int coordinate) => Mix(((ulong)coordinate + 1) * 0x9e3779b97f4a7c15);

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

    private static void BeginSum(ArrayView<ulong> sum)
    {
        if (Group.IdxX == 0) sum[0] = 0;
        Group.Barrier();
    }

    /// <summary>Adds up within the group first, so that the global atomic is one for each group. Wrapping sums don't depend on the order.</summary>
    private static void EndSum(ArrayView<ulong> sum, ulong change, ArrayView<ulong> digest)
    {
        if (change != 0) Atomic.Add(ref sum[0], change);
        Group.Barrier();
        if (Group.IdxX == 0 && sum[0] != 0) Atomic.Add(ref digest[0], sum[0]);
    }
}
