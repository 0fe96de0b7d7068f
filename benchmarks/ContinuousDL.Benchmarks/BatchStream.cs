using ContinuousDL.Sampling;

namespace ContinuousDL.Benchmarks;

/// <summary>Draws one batch after the other out of a history of fixed length.</summary>
internal sealed class BatchStream
{
    private const int BatchSize = 128;

    private readonly ISampler sampler;
    private readonly SampleRange range;
    private readonly long[] batch = new long[BatchSize];

    /// <param name="sampler">What draws.</param>
    /// <param name="historyLength">How many samples there are.</param>
    public BatchStream(ISampler sampler, long historyLength)
    {
        this.sampler = sampler;

        // Everything is drawn, unless the sampler takes nothing but new samples.
        range = new SampleRange(0, sampler is OnlineSampler ? historyLength - BatchSize : historyLength, historyLength);

        // The inverse-frequency sampler takes in the history with the first batch.
        Next();
    }

    /// <summary>Draws a batch of 128.</summary>
    public void Next() => sampler.Sample(range, batch);
}
