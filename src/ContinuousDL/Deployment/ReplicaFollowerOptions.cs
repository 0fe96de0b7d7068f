using System.ComponentModel.DataAnnotations;

namespace ContinuousDL.Deployment;

/// <summary>How a <see cref="ReplicaFollower{TModule}"/> behaves when something goes wrong.</summary>
public sealed class ReplicaFollowerOptions
{
    /// <summary>What the replica is called in logs and in the tag <c>replica</c> of its metrics.</summary>
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

    /// <summary>A copy that nobody else changes.</summary>
    internal ReplicaFollowerOptions Copy() => (ReplicaFollowerOptions)MemberwiseClone();
}
