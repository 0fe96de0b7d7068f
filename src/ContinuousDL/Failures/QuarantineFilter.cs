using ContinuousDL.Sampling;

namespace ContinuousDL.Failures;

/// <summary>Keeps the samples in quarantine out of the batches of any sampler, and fills their places with others.</summary>
/// <remarks>
/// Costs nothing while the quarantine is empty, otherwise a binary search for each place. A place stays empty where the sampler
/// goes on drawing what is in quarantine or in the batch already: where few other samples are left, or its weights favour very few.
/// </remarks>
internal sealed class QuarantineFilter(ISampler sampler, SampleQuarantine quarantine)
{
    /// <summary>How often the sampler is asked for more; each time for the few places that are still empty.</summary>
    private const int MostRedraws = 32;

    private readonly IndexSet taken = new();

    /// <summary>As <see cref="ISampler.Sample"/>, without samples in quarantine.</summary>
    public BatchSelection Sample(SampleRange range, Span<long> batch)
    {
        var sampled = sampler.Sample(range, batch);
        if (quarantine.IsEmpty) return sampled;
        batch = batch[..sampled.Count];
        var kept = quarantine.Exclude(batch);
        return kept == sampled.Count ? sampled : Fill(range, batch, kept, sampled.FirstNew);
    }

    /// <summary>As <see cref="ISampler.OnTrained"/>.</summary>
    public void OnTrained(ReadOnlySpan<long> batch, double loss) => sampler.OnTrained(batch, loss);

    /// <summary>As <see cref="ISampler.OnArrived"/>.</summary>
    public void OnArrived(long first, int count, double? loss) => sampler.OnArrived(first, count, loss);

    private BatchSelection Fill(SampleRange range, Span<long> batch, int kept, long firstNew)
    {
        var mayRepeat = TakeAll(batch[..kept], batch.Length);
        for (var redraw = 0; redraw < MostRedraws && kept < batch.Length; redraw++)
        {
            // To the sampler this is the next batch: new samples that had no place before come first.
            var more = batch[kept..];
            var sampled = sampler.Sample(new SampleRange(range.First, firstNew, range.End), more);
            firstNew = sampled.FirstNew;
            if (sampled.Count == 0) break;
            foreach (var index in more[..quarantine.Exclude(more[..sampled.Count])])
            {
                if (taken.Add(index) || mayRepeat) batch[kept++] = index;
            }
        }

        batch = batch[..kept];
        var newCount = 0;
        foreach (var index in batch)
        {
            if (index >= range.FirstNew) newCount++;
        }

        return new BatchSelection(kept, newCount, firstNew);
    }

    /// <summary>Takes note of the samples of a batch.</summary>
    /// <returns>Whether the sampler draws with replacement, as far as the batch shows: one sample is in it twice.</returns>
    private bool TakeAll(ReadOnlySpan<long> batch, int places)
    {
        taken.Reset(places);
        var repeated = false;
        foreach (var index in batch) repeated |= !taken.Add(index);
        return repeated;
    }
}
