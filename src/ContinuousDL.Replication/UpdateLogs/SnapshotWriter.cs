using ContinuousDL.Replication.Storage;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>
/// Writes a log's snapshots, one at a time, and gives one up where appending needs the room: a snapshot can be made again, an update
/// that can't be appended holds the trainer up. Thread-safe.
/// </summary>
internal sealed class SnapshotWriter
{
    private readonly Lock writing = new();
    private volatile CancellationTokenSource? current;

    /// <summary>Writes a snapshot.</summary>
    /// <param name="path">Where to.</param>
    /// <param name="snapshot">The snapshot.</param>
    /// <returns>The size of the file in bytes.</returns>
    /// <exception cref="IOException">It could not be written, or was given up. Nothing of it is left.</exception>
    public long Write(string path, ModelSnapshot snapshot)
    {
        lock (writing)
        {
            // Never disposed of: the other thread may still be about to cancel it, and without a timer it holds nothing.
            var giveUp = new CancellationTokenSource();
            current = giveUp;
            try
            {
                DurableFile.Write(path, snapshot.Save, cancellationToken: giveUp.Token);
                return new FileInfo(path).Length;
            }
            catch (OperationCanceledException e)
            {
                throw new IOException($"The snapshot '{path}' was given up: the disk has no room for it beside the updates.", e);
            }
            finally
            {
                current = null;
            }
        }
    }

    /// <summary>Has a snapshot that is being written given up, and waits until the room that it took is free.</summary>
    /// <returns>Whether one was being written.</returns>
    public bool GiveUp()
    {
        if (current is not { } writer) return false;
        writer.Cancel();
        lock (writing) return true;
    }
}
