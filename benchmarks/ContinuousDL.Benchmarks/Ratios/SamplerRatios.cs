namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>Batches out of 10 million samples against batches out of 10 thousand.</summary>
internal static class SamplerRatios
{
    private const int Short = 10_000;
    private const int Long = 10_000_000;

    /// <summary>A group for each sampler that draws.</summary>
    public static IEnumerable<RatioGroup> Groups() => Samplers.Names.Where(n => n != "online").Select(name => new RatioGroup(
        [new($"sampler: history of 10 M / 10 k, {name}", name is "uniform" or "window" ? 2 : 4)],
        () =>
        {
            var many = new BatchStream(Samplers.Create(name), Long);
            var few = new BatchStream(Samplers.Create(name), Short);
            var times = PairedTimes.Measure(TimeSpan.FromSeconds(4), many.Next, few.Next);
            return [Measurement.Of(times, 0, 1)];
        }));
}
