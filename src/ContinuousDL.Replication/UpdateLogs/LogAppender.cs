using ContinuousDL.Replication.Storage;
using Microsoft.Win32.SafeHandles;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>Writes records to the end of a run: into the file that is open, or a new one. Not thread-safe.</summary>
internal sealed class LogAppender(UpdateLogOptions options, TimeProvider timeProvider) : IDisposable
{
    private SafeFileHandle? file;
    private string path = "";
    private bool startSegment;

    /// <summary>Why nothing can be appended any more: what is on disk is only known when the log is opened again. Null where it is known.</summary>
    public Exception? Fault { get; private set; }

    /// <summary>Whether the next update begins a new file in any case.</summary>
    public bool BeginsSegment => startSegment;

    /// <summary>Appends an update.</summary>
    /// <param name="run">The run that it is of.</param>
    /// <param name="fingerprint">The model's fingerprint.</param>
    /// <param name="record">Room for the record's header, and its message.</param>
    /// <param name="sequence">The sequence that it leads to.</param>
    /// <exception cref="IOException">It could not be written. Unless there is a <see cref="Fault"/> now, nothing has changed.</exception>
    public void Append(RunHistory run, UInt128 fingerprint, Span<byte> record, long sequence)
    {
        var time = timeProvider.GetUtcNow().ToUnixTimeMilliseconds();
        var last = run.Segments.Count > 0 ? run.Segments[^1] : null;
        try
        {
            if (last is null || startSegment || last.Length >= options.SegmentBytes)
            {
                Close();
                path = run.SegmentPath(run.Head);
                last = LogSegment.Create(path, run.RunId, fingerprint, run.Head, record, sequence, time, out var made);
                file = made;
                run.Segments.Add(last);
                startSegment = false;
            }
            else
            {
                if (file is null) (path, file) = (last.Path, last.OpenForAppending());
                AppendTo(last, file, record, sequence, time);
            }

            // It is on disk, and need not be opened again.
            if (last.Length >= options.SegmentBytes && LogSegment.IsFullWithOne(options.SegmentBytes)) Release();
        }
        catch (Exception e)
        {
            if (e is FlushFailedException || e is not IOException full || !DiskFull.Is(full)) Fault ??= e;
            throw;
        }
    }

    /// <summary>Waits until the disk has all that was appended.</summary>
    /// <exception cref="IOException">The disk failed; there is a <see cref="Fault"/> now.</exception>
    public void Flush()
    {
        if (options.FlushOnAppend || file is null) return;
        try
        {
            DurableFile.Flush(file, path);
        }
        catch (Exception e)
        {
            Fault ??= e;
            throw;
        }
    }

    /// <summary>Begins a new file with the next update.</summary>
    /// <returns>What to give to <see cref="KeepSegment"/> to take it back.</returns>
    public bool BeginSegment()
    {
        var before = startSegment;
        startSegment = true;
        return before;
    }

    /// <summary>Takes back that a new file is to be begun, unless it was so before, or has been begun already.</summary>
    public void KeepSegment(bool before) => startSegment &= before;

    /// <summary>Lets the file go, for there is nothing to be appended to it any more.</summary>
    public void Release()
    {
        file?.Dispose();
        file = null;
    }

    /// <summary>Says that what is on disk is not known any more.</summary>
    public void Fail(Exception reason) => Fault ??= reason;

    /// <summary>Takes up a run that is there already, of which everything was read: the disk has it when this returns.</summary>
    /// <param name="run">The run.</param>
    /// <exception cref="IOException">The disk failed.</exception>
    public void TakeUp(RunHistory run)
    {
        startSegment = run.NewestSnapshot == run.Head;
        if (run.Segments.Count > 0 && run.Segments[^1].Records.Count == 0)
        {
            // A crash kept its first update from being written. It is made again, whole, under the same name; those before are on disk.
            File.Delete(run.Segments[^1].Path);
            run.Segments.RemoveAt(run.Segments.Count - 1);
            return;
        }

        if (run.Segments.Count == 0) return;
        var last = run.Segments[^1];

        // Storage that can't append can't write again either.
        if (LogSegment.IsFullWithOne(options.SegmentBytes) && run.UnfinishedBytes == 0) return;
        using var handle = last.OpenForAppending();
        last.CutTail(handle);
        last.WriteAgain(handle);
    }

    public void Dispose() => Release();

    /// <summary>Flushes the file and lets it go.</summary>
    private void Close()
    {
        Flush();
        Release();
    }

    /// <summary>Appends a record; where the disk is full, what was written of it is cut off again.</summary>
    private void AppendTo(LogSegment segment, SafeFileHandle handle, Span<byte> record, long sequence, long time)
    {
        try
        {
            segment.Append(handle, record, sequence, time, options.FlushOnAppend);
        }
        catch (IOException e) when (e is not FlushFailedException && DiskFull.Is(e))
        {
            try
            {
                segment.CutTail(handle);
            }
            catch (IOException)
            {
                Fault = e;
            }

            throw;
        }
    }
}
