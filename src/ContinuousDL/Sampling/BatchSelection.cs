namespace ContinuousDL.Sampling;

/// <summary>What a sampler filled a batch with.</summary>
/// <param name="Count">How many indices were written, from the start of the batch. Less than the batch size where there was no more to take.</param>
/// <param name="NewCount">How many of them are new samples.</param>
/// <param name="FirstNew">The index of the oldest sample that is still new after this batch: new samples that did not fit into it stay new.</param>
public readonly record struct BatchSelection(int Count, int NewCount, long FirstNew)
{
    /// <summary>How many of the indices are historical samples.</summary>
    public int HistoricalCount => Count - NewCount;
}
