namespace ContinuousDL.Replication.Storage;

/// <summary>
/// The disk did not take what was written to a file. Which part of it is there nobody knows, and the system may take all of it
/// for written from now on: the next flush of that file says nothing about it.
/// </summary>
internal sealed class FlushFailedException : IOException
{
    public FlushFailedException(string path, string reason, int error)
        : base(MessageOf(path, reason), error)
    {
    }

    public FlushFailedException(string path, IOException innerException)
        : base(MessageOf(path, innerException.Message), innerException) => HResult = innerException.HResult;

    private static string MessageOf(string path, string reason) => $"'{path}' could not be flushed to disk: {reason}";
}
