using ContinuousDL.Replication;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;

namespace ContinuousDL.AspNetCore;

/// <summary>The options of the endpoint that <see cref="UpdateEndpoints.MapModelUpdates"/> maps.</summary>
public sealed class UpdateEndpointOptions
{
    /// <summary>The longest that a request waits for something new, whatever it asks for, and how long it does where it asks for nothing. Above what lies between allows, the connection is cut. <value>Default: 20 seconds.</value></summary>
    [DurationRange("00:00:00", "00:10:00", ErrorMessage = "It must be from 0 to 10 minutes.")]
    public TimeSpan LongestWait { get; set; } = TimeSpan.FromSeconds(20);

    /// <summary>
    /// The newest signed heartbeat, which each answer carries: <see cref="HeartbeatSigner.Sign"/>, or where a process only passes updates
    /// on, what that one got. Replicas with a key and <see cref="ReplicaFollowerOptions.MaximumSilence"/> need it. <value>Default: none; the
    /// heartbeats of the source, if it has any.</value>
    /// </summary>
    public Func<byte[]?>? Heartbeat { get; set; }

    /// <summary>How long a snapshot stays in memory after its last use, for replicas that start soon after and for those that were cut off while they got it. <value>Default: 1 minute.</value></summary>
    [DurationRange("00:00:00", "1.00:00:00", ErrorMessage = "It must be from 0 to 1 day.")]
    public TimeSpan SnapshotLifetime { get; set; } = TimeSpan.FromMinutes(1);
}
