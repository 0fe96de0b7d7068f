using BenchmarkDotNet.Attributes;
using ContinuousDL.Sampling;

namespace ContinuousDL.Benchmarks;

/// <summary>Drawing a batch of 128 out of histories of growing length: the time must not grow with them.</summary>
[Config(typeof(BenchmarkConfig.Short))]
public class SamplerBenchmarks
{
    private BatchStream stream = null!;

    /// <summary>The names of the samplers.</summary>
    public static IEnumerable<string> All => Samplers.Names;

    /// <summary>Which sampler draws.</summary>
    [ParamsSource(nameof(All))]
    public string Sampler { get; set; } = "";

    /// <summary>How many samples there are.</summary>
    [Params(10_000, 100_000, 1_000_000, 10_000_000)]
    public int History { get; set; }

    /// <summary>Makes the sampler, and lets it take in the history.</summary>
    [GlobalSetup]
    public void Setup() => stream = new BatchStream(Samplers.Create(Sampler), History);

    /// <summary>Draws one batch.</summary>
    [Benchmark]
    public void Sample() => stream.Next();
}
