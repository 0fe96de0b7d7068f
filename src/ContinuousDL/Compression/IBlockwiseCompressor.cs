using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>A compressor that can look at a vector block by block, while each block is in the cache, instead of at the end.</summary>
internal interface IBlockwiseCompressor : IGradientCompressor
{
    /// <summary>Begins a vector, if it can be looked at in blocks.</summary>
    /// <returns>Whether it can. If not, <see cref="IGradientCompressor.Compress"/> is the way.</returns>
    bool TryBegin(VectorLayout layout);

    /// <summary>Whether a value of the vector that was begun shows in the result where it is not finite: at least one of them, should there be several.</summary>
    bool TakesNonFinite { get; }

    /// <summary>Looks at the next block. Blocks come in the order of their coordinates and leave none out.</summary>
    void Scan(ReadOnlySpan<float> block, int offset);

    /// <summary>Completes the result: the one that <see cref="IGradientCompressor.Compress"/> would give.</summary>
    void Finish(ReadOnlySpan<float> vector, CompressedGradient result);
}
