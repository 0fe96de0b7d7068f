using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Residuals;

/// <summary>
/// Keeps what a compressor left out, so that it is sent later. The one rule: after a step the memory holds what was
/// accumulated minus what was sent, for every compressor.
/// </summary>
/// <remarks>
/// A step is: <see cref="BeginStep"/> if the memory <see cref="NeedsGradientNorm"/>; <see cref="Accumulate"/> for every part
/// of the vector that has a gradient, in any order, each coordinate at most once; then compress <see cref="Accumulated"/>;
/// then <see cref="Release"/>. Working in parts lets a step pass over memory once. A coordinate that was not accumulated in a
/// step keeps what it is owed. Its state is what is owed, and all else that is kept from step to step; it is saved between steps,
/// when nothing is accumulated that is yet to be released, and loaded after <see cref="Attach"/>. Not thread-safe.
/// </remarks>
public interface IResidualMemory : IDisposable, IStateful
{
    /// <summary>Prepares for vectors of a layout, with nothing owed. Called once, before anything else.</summary>
    /// <param name="layout">The tensors of the vectors.</param>
    /// <exception cref="InvalidOperationException">The memory is in use already: it serves one model.</exception>
    void Attach(VectorLayout layout);

    /// <summary>Whether <see cref="BeginStep"/> has to be called in every step. Where not, nobody computes a norm in vain.</summary>
    bool NeedsGradientNorm => false;

    /// <summary>Whether what is not sent is owed. Where not, a coordinate that was not accumulated in a step has no value in it. <value>True, unless an implementation says otherwise.</value></summary>
    bool KeepsResidual => true;

    /// <summary>
    /// Begins a step with the norm of what will be accumulated in it, before the first part is: clipping scales each part by
    /// the norm of all. Does nothing where the memory doesn't need it.
    /// </summary>
    /// <param name="gradientNorm">The L2 norm of this step's gradient (or update) over all its parts; finite, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="gradientNorm"/> is negative or not finite, and is needed.</exception>
    void BeginStep(double gradientNorm)
    {
    }

    /// <summary>Adds a part of this step's gradient (or update) to what is owed.</summary>
    /// <param name="gradient">The values of the coordinates [offset, offset + length). Stays the caller's, unchanged.</param>
    /// <param name="offset">The first coordinate.</param>
    /// <returns>What is to be compressed of these coordinates, as <see cref="Accumulated"/> shows it: for who wants to look at it while it is in the cache.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The part does not lie within the n coordinates.</exception>
    ReadOnlySpan<float> Accumulate(ReadOnlySpan<float> gradient, int offset);

    /// <summary>
    /// All n coordinates, to be read, not written: before <see cref="Release"/> what is to be compressed, after it what is still owed.
    /// </summary>
    ReadOnlySpan<float> Accumulated { get; }

    /// <summary>Ends the step: keeps what was accumulated minus what was sent.</summary>
    /// <param name="sent">What was sent.</param>
    /// <exception cref="ArgumentException"><paramref name="sent"/> does not have n coordinates.</exception>
    void Release(CompressedGradient sent);

    /// <summary>Owes nothing any more, and is as after <see cref="Attach"/>. Called between steps.</summary>
    void Reset();
}
