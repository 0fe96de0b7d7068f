using ContinuousDL.Replication.Transport;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>Consecutive updates of one file, not read yet.</summary>
/// <param name="Path">The file.</param>
/// <param name="From">The sequence of the state that the first of them starts from.</param>
/// <param name="Records">Where they are.</param>
internal sealed record SegmentRange(string Path, long From, List<LogRecord> Records)
{
    /// <summary>The bytes of their messages.</summary>
    public long Bytes => Records.Sum(r => (long)r.Length);

    /// <summary>Reads the messages.</summary>
    /// <param name="messages">Receives them.</param>
    /// <exception cref="FileNotFoundException">The file has been removed meanwhile.</exception>
    /// <exception cref="UpdateLogDamagedException">The file has become shorter.</exception>
    public void ReadInto(List<UpdateMessage> messages)
    {
        using var file = LogSegment.OpenForReading(Path);
        foreach (var record in Records)
        {
            var bytes = GC.AllocateUninitializedArray<byte>(record.Length);
            if (LogSegment.ReadFully(file, bytes, record.Offset) < bytes.Length)
            {
                throw new UpdateLogDamagedException(Path, record.Offset, "a record that was there is cut off.");
            }

            messages.Add(new UpdateMessage(bytes, DateTimeOffset.FromUnixTimeMilliseconds(record.Time)));
        }
    }
}
