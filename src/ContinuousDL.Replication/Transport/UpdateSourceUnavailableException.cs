namespace ContinuousDL.Replication.Transport;

/// <summary>A source of updates can't be reached now, refuses, or gives no valid answer. It may later.</summary>
public sealed class UpdateSourceUnavailableException : IOException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="message">The message, which says what is wrong.</param>
    /// <param name="innerException">Why, where something else threw.</param>
    public UpdateSourceUnavailableException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }

    /// <summary>After how long the source asked to be asked again; null where it said nothing of it. A follower waits as long.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>Whether there was no answer at all, or one of somebody on the way.</summary>
    internal bool IsUnanswered { get; init; }
}
