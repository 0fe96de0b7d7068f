using Microsoft.Extensions.Logging;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>What an update log tells its logger.</summary>
internal static partial class UpdateLogMessages
{
    [LoggerMessage(4, LogLevel.Warning, "Cut {Bytes} bytes of an unfinished update off the end of {File}; the log goes on from sequence {Sequence}")]
    public static partial void LogTailCut(ILogger logger, long bytes, string file, long sequence);

    [LoggerMessage(5, LogLevel.Error, "Compacting the update log in {Directory} failed; it will be tried again")]
    public static partial void CompactionFailed(ILogger logger, Exception exception, string directory);
}
