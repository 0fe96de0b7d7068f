using ContinuousDL.State;

namespace ContinuousDL.Sampling;

/// <summary>
/// Picks the samples of the next mini-batch: the new ones and historical ones beside them.
/// </summary>
/// <remarks>
/// The cost of a batch depends on its size, not on the length of the history. A sampler learns of samples that were added
/// or dropped from the range it is given, and is used with one history only. Samples of a batch that could not be trained on
/// may be given as new again. Its state is everything that decides the next batches, the random state included: the batches that
/// follow a state that was loaded are the ones that would have followed then. Not thread-safe. <see cref="Sampler"/> says how the
/// samplers of this library make up a batch.
/// </remarks>
public interface ISampler : IStateful
{
    /// <summary>Fills a batch with indices into the history.</summary>
    /// <param name="range">The samples there are. Its bounds never move down from one call to the next.</param>
    /// <param name="batch">Receives the indices. Its length is the batch size.</param>
    /// <returns>How much of <paramref name="batch"/> was filled, and with what; nothing where there is no sample.</returns>
    /// <exception cref="ArgumentException"><paramref name="batch"/> is empty, or <paramref name="range"/> is not that of the history that this sampler serves.</exception>
    BatchSelection Sample(SampleRange range, Span<long> batch);

    /// <summary>
    /// Says that samples were trained on, after each step that changed the deployed model; not of a step that was skipped. Must not
    /// throw: the step can't be undone, and the trainer goes on. Does nothing, unless an implementation says otherwise.
    /// </summary>
    /// <param name="batch">The indices of the samples: those of the last <see cref="Sample"/>, except where others have taken the place of samples in quarantine. Valid during the call.</param>
    /// <param name="loss">The loss of the batch, before the step. It is finite.</param>
    void OnTrained(ReadOnlySpan<long> batch, double loss)
    {
    }

    /// <summary>
    /// Says that samples have arrived and are in the history. Must not throw: they can't be taken out again, and the trainer goes on.
    /// Does nothing, unless an implementation says otherwise. After a crash, a sampler may not have heard of the last samples of its range.
    /// </summary>
    /// <param name="first">The index of the first one.</param>
    /// <param name="count">The number of them, at least 1.</param>
    /// <param name="loss">The loss of the deployed model on all of them, before it was trained on them; null where arrivals are not evaluated. It need not be finite.</param>
    void OnArrived(long first, int count, double? loss)
    {
    }
}
