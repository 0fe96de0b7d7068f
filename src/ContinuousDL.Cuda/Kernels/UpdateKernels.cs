using ILGPU;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>The kernels that deal with k coordinates of one vector: gathering them, and taking off what was sent.</summary>
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

    private static long First => ((long)Grid.IdxX * Group.DimX) + Group.IdxX;

    private static long Stride => (long)Grid.DimX * Group.DimX;
}
