using ILGPU;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>The kernels that deal with k coordinates: gathering them, taking off what was sent, and scattering an update into a replica.</summary>
/// <remarks>Coordinates are distinct. Any number of groups of any size gives the same result.</remarks>
internal static class UpdateKernels
{
    /// <summary>Reads chosen coordinates, each times a factor, as <see cref="Compression.RandomKCompressor"/> does.</summary>
    /// <param name="vector">The vector.</param>
    /// <param name="indices">The coordinates.</param>
    /// <param name="values">What each is multiplied by; receives the values.</param>
    public static void Gather(ArrayView<float> vector, ArrayView<int> indices, ArrayView<float> values)
    {
        for (var j = First; j < indices.Length; j += Stride) values[j] *= vector[indices[j]];
    }

    /// <summary>Takes off a vector what was sent of it: what rounding left stays owed.</summary>
    /// <param name="vector">The vector.</param>
    /// <param name="indices">The coordinates.</param>
    /// <param name="sent">What was sent of each.</param>
    public static void Subtract(ArrayView<float> vector, ArrayView<int> indices, ArrayView<float> sent)
    {
        for (var j = First; j < indices.Length; j += Stride) vector[indices[j]] -= sent[j];
    }

    /// <summary>Writes new values of 4 bytes into a tensor, and adds to the digest of the state what they change it by.</summary>
    /// <param name="tensor">The tensor's elements.</param>
    /// <param name="coordinates">The coordinates of the model's layout.</param>
    /// <param name="bits">The new values, packed.</param>
    /// <param name="digest">One sum, to be added to; wraps around.</param>
    /// <param name="offset">The coordinate of the tensor's first element.</param>
    public static void ScatterWords(ArrayView<uint> tensor, ArrayView<int> coordinates, ArrayView<uint> bits, ArrayView<ulong> digest, int offset)
    {
        var sum = SharedMemory.Allocate<ulong>(1);
        BeginSum(sum);
        var change = 0ul;
        for (var j = First; j < coordinates.Length; j += Stride)
        {
            var i = coordinates[j] - offset;
            change += Change(coordinates[j], tensor[i], bits[j]);
            tensor[i] = bits[j];
        }

        EndSum(sum, change, digest);
    }

    /// <summary>As <see cref="ScatterWords"/>, for values of 2 bytes.</summary>
    /// <param name="tensor">The tensor's elements.</param>
    /// <param name="coordinates">The coordinates of the model's layout.</param>
    /// <param name="bits">The new values, packed.</param>
    /// <param name="digest">One sum, to be added to; wraps around.</param>
    /// <param name="offset">The coordinate of the tensor's first element.</param>
    public static void ScatterHalfWords(ArrayView<ushort> tensor, ArrayView<int> coordinates, ArrayView<ushort> bits, ArrayView<ulong> digest, int offset)
    {
        var sum = SharedMemory.Allocate<ulong>(1);
        BeginSum(sum);
        var change = 0ul;
        for (var j = First; j < coordinates.Length; j += Stride)
        {
            var i = coordinates[j] - offset;
            change += Change(coordinates[j], tensor[i], bits[j]);
            tensor[i] = bits[j];
        }

        EndSum(sum, change, digest);
    }

    private static long First => ((long)Grid.IdxX * Group.DimX) + Group.IdxX;

    private static long Stride => (long)Grid.DimX * Group.DimX;

    /// <summary>The hash of <see cref="Parameters.StateDigest"/>, written out again because a kernel may only call what ILGPU translates.</summary>
    private static ulong Change(int coordinate, ulong oldBits, ulong newBits)
    {
        var start = Mix(((ulong)coordinate + 1) * 0x9e3779b97f4a7c15);
        return Mix(start + (newBits * 0xd6e8feb86659fd93)) - Mix(start + (oldBits * 0xd6e8feb86659fd93));
    }

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
