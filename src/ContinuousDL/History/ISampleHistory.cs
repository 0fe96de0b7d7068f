using static TorchSharp.torch;

namespace ContinuousDL.History;

/// <summary>
/// The samples seen so far, in the order of their arrival: what a sampler's indices point into.
/// </summary>
/// <remarks>
/// An index is given once, to one sample, and counts up from 0. A history of limited capacity lets its oldest samples go:
/// <see cref="FirstIndex"/> moves up, the indices that remain keep their meaning. Implementations need not be thread-safe;
/// a <see cref="ProactiveTrainer"/> calls its history from one thread at a time.
/// </remarks>
public interface ISampleHistory : IDisposable
{
    /// <summary>The index of the oldest sample that is still kept; equals <see cref="EndIndex"/> when there is none.</summary>
    long FirstIndex { get; }

    /// <summary>The index that the next sample will get: one past the newest sample.</summary>
    long EndIndex { get; }

    /// <summary>How many samples are kept.</summary>
    long Count => EndIndex - FirstIndex;

    /// <summary>
    /// The most samples that are kept at once; null, the default, where there is no limit. A trainer refuses a history that can
    /// never hold as many new samples as make a step due.
    /// </summary>
    long? Capacity => null;

    /// <summary>
    /// Appends a batch of samples. The first batch fixes the shape and dtype of one input and one target.
    /// </summary>
    /// <param name="inputs">The inputs, <c>[N, ...]</c>, of any dtype, on any device. Copied; it stays the caller's.</param>
    /// <param name="targets">The targets, <c>[N, ...]</c> or <c>[N]</c>, of any dtype, on any device. Copied; it stays the caller's.</param>
    /// <returns>The index of the first sample of the batch.</returns>
    /// <exception cref="ArgumentException">The batch is empty, the counts differ, or shape or dtype is not that of the samples before. Nothing was kept.</exception>
    /// <exception cref="ObjectDisposedException">The history, or one of the tensors, is disposed.</exception>
    long Append(Tensor inputs, Tensor targets);

    /// <summary>Copies samples into a batch, in the order of the indices.</summary>
    /// <param name="indices">Indices in [<see cref="FirstIndex"/>, <see cref="EndIndex"/>); one may occur more than once.</param>
    /// <returns>A batch on the CPU, owned by the caller.</returns>
    /// <exception cref="ArgumentException"><paramref name="indices"/> is empty.</exception>
    /// <exception cref="ArgumentOutOfRangeException">An index is not kept (any longer).</exception>
    /// <exception cref="SampleHistoryException">A sample is damaged; <see cref="SampleHistoryException.SampleIndex"/> says which. A trainer never asks for it again.</exception>
    /// <exception cref="ObjectDisposedException">The history is disposed.</exception>
    SampleBatch Gather(ReadOnlySpan<long> indices);

    /// <summary>
    /// Makes sure that the samples whose <see cref="Append"/> has returned survive a power loss, where the history is kept on
    /// disk; does nothing where it is not. A trainer calls it before it lets a checkpoint count on them, from another thread
    /// than the one that appends and gathers, at the same time.
    /// </summary>
    /// <exception cref="IOException">The samples could not be written.</exception>
    void Flush()
    {
    }
}
