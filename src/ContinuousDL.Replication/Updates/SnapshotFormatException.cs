namespace ContinuousDL.Replication.Updates;

/// <summary>A file or stream is no valid snapshot: not the safetensors format, cut off, damaged, or not what its metadata says.</summary>
/// <param name="message">The message, which says what is wrong.</param>
/// <param name="innerException">The exception of the header's reader; null where there is none.</param>
public sealed class SnapshotFormatException(string message, Exception? innerException = null) : FormatException(message, innerException);
