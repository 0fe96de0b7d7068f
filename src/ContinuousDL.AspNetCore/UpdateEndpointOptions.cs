namespace ContinuousDL.AspNetCore;

/// <summary>The options of the endpoint that <see cref="UpdateEndpoints.MapModelUpdates"/> maps.</summary>
public sealed class UpdateEndpointOptions
{
    /// <summary>The longest that a request waits for something new, whatever it asks for. Longer: fewer requests; more than what lies between allows, and they cut the connection. <value>60 seconds.</value></summary>
    [DurationRange("00:00:00", "00:10:00", ErrorMessage = "It must be from 0 to 10 minutes.")]
    public TimeSpan LongestWait { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a snapshot stays in memory after its last use, for replicas that start soon after and for those that were cut off while they got it. <value>1 minute.</value></summary>
    [DurationRange("00:00:00", "1.00:00:00", ErrorMessage = "It must be from 0 to 1 day.")]
    public TimeSpan SnapshotLifetime { get; set; } = TimeSpan.FromMinutes(1);
}
