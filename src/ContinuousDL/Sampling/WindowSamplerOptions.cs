using ContinuousDL.Replication;

namespace ContinuousDL.Sampling;

/// <summary>Options of a <see cref="WindowSampler"/>.</summary>
public sealed class WindowSamplerOptions : SamplerOptions
{
    /// <summary>
    /// The window W: how many of the newest samples, new ones included, can be drawn. A smaller window follows a change of the
    /// data sooner, and forgets sooner.
    /// </summary>
    /// <value>The default is 10,000. At least 1.</value>
    [LongRange(1, long.MaxValue)]
    public long WindowSize { get; set; } = 10_000;
}
