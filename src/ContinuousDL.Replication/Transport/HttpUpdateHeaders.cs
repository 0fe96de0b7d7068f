namespace ContinuousDL.Replication.Transport;

/// <summary>The headers with which a server answers an <see cref="HttpUpdateSource"/>, beside those of HTTP.</summary>
public static class HttpUpdateHeaders
{
    /// <summary>
    /// Repeats the query's <c>request</c>, which is another one in each request: by it a replica knows that the answer was made for
    /// it, and is none that a cache has kept.
    /// </summary>
    public const string Request = "ContinuousDL-Request";

    /// <summary>A signed heartbeat in Base64, see <see cref="UpdateBatch.Heartbeat"/>.</summary>
    public const string Heartbeat = "ContinuousDL-Heartbeat";

    /// <summary>The newest sequence of the source when an answer with a snapshot on its own began, in decimal digits, see <see cref="UpdateBatch.NewestSequence"/>.</summary>
    public const string NewestSequence = "ContinuousDL-Newest-Sequence";

    /// <summary>The most characters of a request's name: letters, digits and hyphens.</summary>
    public const int LongestRequest = 64;
}
