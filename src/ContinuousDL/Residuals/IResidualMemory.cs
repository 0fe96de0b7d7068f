using ContinuousDL.Compression;

namespace ContinuousDL.Residuals;

/// <summary>
/// Keeps what a compressor left out, so that it is sent later. The one rule: after a step the memory holds what was
/// accumulated minus what was sent, for every compressor.
/// </summary>
/// <remarks>
/// A step is: <see cref="Accumulate"/> for every part of the vector that has a gradient, in any order, each coordinate at
/// most once; then compress <see cref="Accumulated"/>; then <see cref="Release"/>. Working in parts lets a step pass over
/// memory once. A coordinate that was not accumulated in a step keeps what it is owed. Not thread-safe.
/// </remarks>
public interface IResidualMemory : IDisposable
{
    /// <summary>Prepares for vectors of a layout, with nothing owed. Called once, before anything else.</summary>
    /// <param name="layout">The tensors of the vectors.</param>
    /// <exception cref="InvalidOperationException">The memory is in use already: it serves one model.</exception>
    void Attach(VectorLayout layout);

    /// <summary>Adds a part of this step's gradient (or update) to what is owed.</summary>
    /// <param name="gradient">The values of the coordinates [offset, offset + length). Stays the caller's, unchanged.</param>
    /// <param name="offset">The first coordinate.</param>
    void Accumulate(ReadOnlySpan<float> gradient, int offset);

    /// <summary>What is to be compressed: all n coordinates. Valid until <see cref="Release"/>; to be read, not written.</summary>
    ReadOnlySpan<float> Accumulated { get; }

    /// <summary>Ends the step: keeps what was accumulated minus what was sent.</summary>
    /// <param name="sent">What was sent.</param>
    void Release(CompressedGradient sent);

    /// <summary>Writes the whole state.</summary>
    /// <param name="writer">Where to write it. Stays open.</param>
    void SaveState(BinaryWriter writer);

    /// <summary>Takes up a state that <see cref="SaveState"/> wrote. Called after <see cref="Attach"/>.</summary>
    /// <param name="reader">Where to read it from. Stays open.</param>
    /// <exception cref="InvalidDataException">It is not the state of a memory of this kind and length.</exception>
    void LoadState(BinaryReader reader);
}
