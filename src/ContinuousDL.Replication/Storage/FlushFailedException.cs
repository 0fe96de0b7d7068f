namespace ContinuousDL.Replication.Storage;

/// <summary>
/// The disk did not take what was written to a file. Which part of it is there nobody knows, and the system may take all of it
/// for written from now on: the next flush of that file says nothing about it.
/// </summary>
public sealed class FlushFailedException : IOException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="path">The file.</param>
    /// <param name="reason">What the system says, as a sentence.</param>
    /// <param name="error">The number of the system's error.</param>
    public FlushFailedException(string path, string reason, int error)
        : base(MessageOf(path, reason), error)
    {
    }

    /// <summary>Makes the exception of another one.</summary>
    /// <param name="path">The file.</param>
    /// <param name="innerException">What was thrown when it was flushed.</param>
    public FlushFailedException(string path, IOException innerException)
        : base(MessageOf(path, (innerException ?? throw new ArgumentNullException(nameof(innerException))).Message), innerException) => HResult = innerException.HResult;

    private static string MessageOf(string path, string reason) => $"'{path}' could not be flushed to disk: {reason}";
}
