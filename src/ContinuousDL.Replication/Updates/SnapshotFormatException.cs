namespace ContinuousDL.Replication.Updates;

/// <summary>A file or stream is no valid snapshot: not the safetensors format, cut off, damaged, or not what its metadata says.</summary>
/// <param name="message">What is wrong.</param>
/// <param name="innerException">What the reader of the header stumbled on; null where it found out by itself.</param>
public sealed class SnapshotFormatException(string message, Exception? innerException = null) : FormatException(message, innerException);
