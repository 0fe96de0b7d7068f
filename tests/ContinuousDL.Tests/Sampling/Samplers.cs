using ContinuousDL.Sampling;
using ContinuousDL.State;

namespace ContinuousDL.Tests.Sampling;

/// <summary>Every kind of sampler, with common options, for the tests of what they share.</summary>
public static class Samplers
{
    /// <summary>The window of the window sampler below.</summary>
    public const long WindowSize = 30;

    /// <summary>The kinds that draw from historical samples.</summary>
    public static readonly string[] Drawing = ["uniform", "window", "linear", "exponential", "short exponential", "inverse-frequency"];

    /// <summary>All kinds.</summary>
    public static readonly string[] All = [.. Drawing, "online"];

    public static ISampler Make(string kind, bool alwaysIncludeNew = true, bool withReplacement = false, bool shuffle = false, ulong seed = 1)
    {
        return kind switch
        {
            "uniform" => new UniformSampler(With(new SamplerOptions())),
            "window" => new WindowSampler(With(new WindowSamplerOptions { WindowSize = WindowSize })),
            "linear" => new TimeBiasedSampler(With(new TimeBiasedSamplerOptions())),
            "exponential" => new TimeBiasedSampler(With(Exponential(20))),
            "short exponential" => new TimeBiasedSampler(With(Exponential(0.5))),
            "inverse-frequency" => new InverseFrequencySampler(With(new InverseFrequencySamplerOptions())),
            "online" => new OnlineSampler(With(new SamplerOptions())),
            _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, null),
        };

        T With<T>(T options)
            where T : SamplerOptions
        {
            options.AlwaysIncludeNew = alwaysIncludeNew;
            options.WithReplacement = withReplacement;
            options.Shuffle = shuffle;
            options.Seed = seed;
            return options;
        }
    }

    /// <summary>A new sampler with other options of its own kind, or null where there are none.</summary>
    public static ISampler? MakeOther(string kind) => kind switch
    {
        "window" => new WindowSampler(new() { WindowSize = WindowSize + 1 }),
        "linear" => new TimeBiasedSampler(Exponential(20)),
        "exponential" or "short exponential" => new TimeBiasedSampler(Exponential(21)),
        "inverse-frequency" => new InverseFrequencySampler(new() { InitialNewCount = 2 }),
        _ => null,
    };

    /// <summary>A batch of a sampler, cut to what was filled.</summary>
    public static long[] Sample(this ISampler sampler, SampleRange range, int batchSize)
    {
        var batch = new long[batchSize];
        return batch[..sampler.Sample(range, batch).Count];
    }

    public static byte[] Save(this ISampler sampler)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream);
        sampler.SaveState(writer);
        return stream.ToArray();
    }

    public static void Load(this ISampler sampler, byte[] state)
    {
        using var reader = new BinaryReader(new MemoryStream(state));
        sampler.LoadState(reader);
    }

    private static TimeBiasedSamplerOptions Exponential(double halfLife) => new() { Weighting = RecencyWeighting.Exponential, HalfLife = halfLife };
}
