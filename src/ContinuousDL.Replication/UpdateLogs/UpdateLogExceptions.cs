namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>Another writer has the log open: there can be one at a time.</summary>
public sealed class UpdateLogInUseException : IOException
{
    internal UpdateLogInUseException(string directory)
        : base($"The update log in '{directory}' has a writer already; there can be one at a time. Read it with {nameof(DirectoryUpdateSource)}.") =>
        Directory = directory;

    /// <summary>The log's directory.</summary>
    public string Directory { get; }
}

/// <summary>
/// A log is damaged in another way than a crash can damage it: not at its very end, where a record that was being written is
/// cut off, but before. Nothing is guessed and nothing was changed.
/// </summary>
public sealed class UpdateLogDamagedException : IOException
{
    internal UpdateLogDamagedException(string file, long offset, string problem, Exception? innerException = null)
        : base($"The update log is damaged at byte {offset:N0} of '{file}': {problem}", innerException)
    {
        File = file;
        Offset = offset;
    }

    /// <summary>The path of the damaged file.</summary>
    public string File { get; }

    /// <summary>Where in the file the damage is, in bytes; 0 where it concerns the whole file.</summary>
    public long Offset { get; }
}
