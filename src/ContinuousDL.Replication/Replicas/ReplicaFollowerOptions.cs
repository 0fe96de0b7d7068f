using System.ComponentModel.DataAnnotations;
using ContinuousDL.Replication.UpdateLogs;

namespace ContinuousDL.Replication.Replicas;

/// <summary>How a <see cref="ReplicaFollower"/> behaves when something goes wrong.</summary>
public sealed class ReplicaFollowerOptions
{
    /// <summary>The name of the replica in logs and in the tag <c>replica</c> of its metrics.</summary>
    /// <value>Default: "replica".</value>
    [Required(ErrorMessage = "must not be empty")]
    public string Name { get; set; } = "replica";

    /// <summary>How often in a row updates may be damaged or missing before a snapshot is asked for.</summary>
    /// <value>Default: 3.</value>
    [Range(1, int.MaxValue, ErrorMessage = "must be at least 1")]
    public int AttemptsBeforeResync { get; set; } = 3;

    /// <summary>How long to wait before asking again when a source gave nothing that helps; twice as long each further time.</summary>
    /// <value>Default: 0.1 seconds.</value>
    [DurationRange("00:00:00.001", "1.00:00:00", ErrorMessage = "must be from 1 millisecond to 1 day")]
    public TimeSpan RetryDelay { get; set; } = TimeSpan.FromMilliseconds(100);

    /// <summary>The longest such wait.</summary>
    /// <value>Default: 10 seconds.</value>
    [DurationRange("00:00:00.001", "1.00:00:00", ErrorMessage = "must be from 1 millisecond to 1 day")]
    public TimeSpan MaxRetryDelay { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>The longest wait that a source may ask for, as a server does with the header <c>Retry-After</c>; it is waited no longer, whatever it asks for.</summary>
    /// <value>Default: 5 minutes.</value>
    [DurationRange("00:00:00", "1.00:00:00", ErrorMessage = "must be from 0 to 1 day")]
    public TimeSpan LongestRetryAfter { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>
    /// After how long without a sign that its state is the newest the follower calls itself <see cref="ReplicaState.Stale"/>. With a key
    /// such a sign is a signed heartbeat, see <see cref="Transport.HeartbeatSigner"/>, which must not have expired; without one any answer
    /// of the source. With a key, too, the state of another run is taken over only if a heartbeat names that run.
    /// </summary>
    /// <value>Default: null, which means that none is needed.</value>
    [DurationRange("00:00:01", "1.00:00:00", ErrorMessage = "must be from 1 second to 1 day")]
    public TimeSpan? MaximumSilence { get; set; }

    /// <summary>
    /// The file in which a follower with a key remembers the highest sequence of each run, so that after a restart, too, it takes
    /// nothing older. Made when it is missing; written once a second at most. Each follower has its own.
    /// </summary>
    /// <value>Default: null, which means that only the process remembers.</value>
    public string? SequenceFile { get; set; }

    /// <summary>
    /// Whether a follower with a key goes back where its source does: to a lower sequence of its run, or to a run that it has left.
    /// To be set for once when the trainer's side has lost updates. Without a key a follower always does.
    /// </summary>
    /// <value>Default: false.</value>
    public bool AllowRollback { get; set; }

    /// <summary>A copy that nobody else changes.</summary>
    internal ReplicaFollowerOptions Copy() => (ReplicaFollowerOptions)MemberwiseClone();
}
