namespace ContinuousDL.Replication.Transport;

/// <summary>The options of an <see cref="HttpUpdateSource"/>.</summary>
public sealed class HttpUpdateSourceOptions
{
    /// <summary>
    /// The longest that the server is asked to wait for something new before it answers that there is nothing. Where something on the
    /// way cuts such requests off, shorter waits take their place by themselves. Longer: fewer requests while nothing is new. <value>Default: 5 seconds,
    /// which is half of what the standard resilience handler of Microsoft.Extensions.Http.Resilience grants an attempt, and a sixth to a
    /// twelfth of the usual idle limits of proxies and load balancers.</value>
    /// </summary>
    [DurationRange("00:00:00", "00:10:00", ErrorMessage = "It must be from 0 to 10 minutes.")]
    public TimeSpan Wait { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>How long an answer may take beyond <see cref="Wait"/>, until its headers and between its parts. <value>Default: 30 seconds.</value></summary>
    [DurationRange("00:00:00.001", "01:00:00", ErrorMessage = "It must be from 1 ms to 1 hour.")]
    public TimeSpan Timeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>The most bytes that a snapshot, and all messages of an answer together, may take. Memory is taken as they arrive. <value>Default: 32 GiB, more than the largest model that there can be.</value></summary>
    [LongRange(1, long.MaxValue)]
    public long MaximumBytes { get; set; } = 1L << 35;
}
