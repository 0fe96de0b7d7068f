using ContinuousDL.Sampling;

namespace ContinuousDL.Benchmarks;

/// <summary>The samplers that are measured, by name.</summary>
internal static class Samplers
{
    /// <summary>The names.</summary>
    public static IReadOnlyList<string> Names { get; } = ["uniform", "window", "time-biased, linear", "time-biased, exponential", "inverse frequency", "online"];

    /// <summary>Makes a sampler with default options.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    public static ISampler Create(string name) => name switch
    {
        "uniform" => new UniformSampler(),
        "window" => new WindowSampler(),
        "time-biased, linear" => new TimeBiasedSampler(new() { Weighting = RecencyWeighting.Linear }),
        "time-biased, exponential" => new TimeBiasedSampler(new() { Weighting = RecencyWeighting.Exponential }),
        "inverse frequency" => new InverseFrequencySampler(),
        "online" => new OnlineSampler(),
        _ => throw new ArgumentOutOfRangeException(nameof(name), name, "There is no such sampler."),
    };
}
