using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>A compressor that can look at a vector block by block, while each block is in the cache, instead of at the end.</summary>
/// <remarks>
/// A vector is: <see cref="TryBegin"/>; where that says yes, <see cref="Scan"/> for every block; then <see cref="Finish"/>. A vector that
/// was begun and not finished, since a step failed, is forgotten by the next <see cref="TryBegin"/> or <see cref="IGradientCompressor.Compress"/>.
/// </remarks>
public interface IBlockwiseCompressor : IGradientCompressor
{
    /// <inheritdoc/>
    IBlockwiseCompressor? IGradientCompressor.Blockwise => this;

    /// <summary>Begins a vector, if it can be looked at in blocks.</summary>
    /// <param name="layout">The tensors that the vector is made up of.</param>
    /// <returns>Whether it can. If not, <see cref="IGradientCompressor.Compress"/> is the way.</returns>
    bool TryBegin(VectorLayout layout);

    /// <summary>Whether a value of the vector that was begun shows in the result where it is not finite: at least one of them, should there be several.</summary>
    bool TakesNonFinite { get; }

    /// <summary>Looks at the next block. Blocks come in the order of their coordinates and leave none out.</summary>
    /// <param name="block">The values of the coordinates [offset, offset + length).</param>
    /// <param name="offset">The first coordinate.</param>
    void Scan(ReadOnlySpan<float> block, int offset);

    /// <summary>Completes the result: the one that <see cref="IGradientCompressor.Compress"/> would give.</summary>
    /// <param name="vector">The whole vector, with the values that were scanned.</param>
    /// <param name="result">Is filled with the part to send.</param>
    void Finish(ReadOnlySpan<float> vector, CompressedGradient result);
}
