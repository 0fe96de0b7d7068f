using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>
/// Picks, out of a vector of n coordinates, the part that is sent: a few coordinates, or all of them coarsely.
/// </summary>
/// <remarks>
/// A compressor has no memory of what it left out: an <see cref="Residuals.IResidualMemory"/> keeps that. The vector's values are
/// finite (a trainer checks the gradient before); where one is not, the compressor must still terminate and keep its result's
/// indices ascending and in range. Its state is everything that decides the next results, such as a random state; a deterministic
/// compressor has none, and implements nothing for it. Not thread-safe.
/// </remarks>
public interface IGradientCompressor : IStateful
{
    /// <summary>Compresses a vector.</summary>
    /// <param name="vector">The n values: gradient or update, with what was owed from earlier steps.</param>
    /// <param name="layout">The tensors that the vector is made up of; n coordinates in all.</param>
    /// <param name="result">Is filled with the part to send.</param>
    /// <exception cref="ArgumentException"><paramref name="vector"/> does not have the layout's length.</exception>
    void Compress(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result);

    /// <summary>
    /// The way to compress a vector block by block, with the same results; null where there is none. A compressor that wraps
    /// another one passes the other's on only where it changes nothing about its results. <value>Null, unless an implementation says otherwise.</value>
    /// </summary>
    IBlockwiseCompressor? Blockwise => null;

    /// <summary>The name of the compressor's type, unless it says otherwise.</summary>
    string IStateful.StateKind => GetType().Name;

    /// <summary>Writes nothing: the compressor is deterministic, unless it says otherwise.</summary>
    /// <param name="writer">The writer.</param>
    void IStateful.WriteState(BinaryWriter writer)
    {
    }

    /// <summary>Reads nothing: the compressor is deterministic, unless it says otherwise.</summary>
    /// <param name="reader">The reader.</param>
    /// <param name="version">The version of the state.</param>
    /// <returns>An action that does nothing.</returns>
    Action IStateful.ReadState(BinaryReader reader, int version) => static () => { };
}
