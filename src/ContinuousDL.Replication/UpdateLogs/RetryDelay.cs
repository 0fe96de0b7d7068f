namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>When to try again what has failed: after a second, and then after twice as long each time. Not thread-safe.</summary>
internal sealed class RetryDelay(TimeProvider timeProvider)
{
    private static readonly TimeSpan First = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Longest = TimeSpan.FromMinutes(5);

    private TimeSpan delay;
    private long since;

    /// <summary>Whether it is too early to try again.</summary>
    public bool IsWaiting => HasFailed && timeProvider.GetElapsedTime(since) < delay;

    /// <summary>Whether the last try failed.</summary>
    public bool HasFailed => delay > TimeSpan.Zero;

    /// <summary>A try has failed.</summary>
    public void Failed()
    {
        delay = !HasFailed ? First : delay < Longest / 2 ? delay * 2 : Longest;
        since = timeProvider.GetTimestamp();
    }

    /// <summary>A try has gone well.</summary>
    public void Succeeded() => delay = TimeSpan.Zero;
}
