using System.Buffers;
using System.Buffers.Binary;
using ContinuousDL.Memory;
using ContinuousDL.Replication;
using ContinuousDL.Replication.Storage;
using static TorchSharp.torch;

namespace ContinuousDL.History;

/// <summary>
/// Keeps the samples in files that are mapped into memory: more of them than memory holds, and still there when the process
/// starts again, however it ended.
/// </summary>
/// <remarks>
/// <para>
/// Samples are appended to files of fixed size, each with a checksum. A sample whose <see cref="Append"/> has returned survives
/// the end of the process, a kill included; a power loss it survives once it was flushed (<see cref="Flush"/>,
/// <see cref="MappedSampleHistoryOptions.FlushEachAppend"/>). Of an append that did not return either all samples are there
/// afterwards or none. Opening reads no samples but those that were not flushed, at most about a file's worth: it takes
/// milliseconds whatever the size. Samples at the end that did not get to the disk whole are cut off then
/// (<see cref="CutSamples"/>); any other damage is found when the sample is read, or by <see cref="Verify"/>.
/// </para>
/// <para>
/// Samples that are read often stay in memory as far as there is room; the system sees to that. One history at a time uses a directory;
/// another one, in this or another process, is refused. The files are to be on a local disk, and nothing else may make them
/// shorter meanwhile: reading what is gone from a mapped file ends the process. Their lengths are checked at opening and whenever
/// a file is begun. Samples of any shape and dtype are
/// kept bit by bit, quantized and sparse ones excepted, of up to 1 GiB each. Not thread-safe, but for <see cref="Flush"/>.
/// </para>
/// </remarks>
/// <example>
/// <code>
/// using var history = new MappedSampleHistory("samples", new() { Capacity = 100_000_000 });
/// history.Append(images, labels);                  // [N, 1, 28, 28] and [N]
/// using var batch = history.Gather([0, 7, 3]);     // [3, 1, 28, 28] and [3]
/// </code>
/// </example>
public sealed class MappedSampleHistory : ISampleHistory
{
    private const string LockFile = "lock";
    private const long LargestSampleBytes = 1L << 30;

    /// <summary>How many bytes are written at a time: enough to make the call cheap, few enough to stay in the cache.</summary>
    private const int StagingBytes = 1 << 18;

    private const long SegmentsPerCapacity = 8;

    private readonly string directory;
    private readonly long capacity;
    private readonly long segmentBytes;
    private readonly bool flushEachAppend;
    private readonly DirectoryLock directoryLock;
    private readonly List<HistorySegment> segments = [];

    /// <summary>Held while the list of segments changes, or is read by another thread.</summary>
    private readonly Lock listing = new();
    private SampleFormat? format;
    private volatile Exception? broken;
    private bool disposed;

    /// <summary>Opens the history in a directory, or begins one.</summary>
    /// <param name="directory">The directory; made if there is none. It should hold nothing else.</param>
    /// <param name="options">The options, read once: later changes have no effect. They may differ from those that the history was begun with. Default: as the options say.</param>
    /// <exception cref="ArgumentException">An option is out of its range, or the directory's name is empty.</exception>
    /// <exception cref="SampleHistoryException">The history is damaged, or in use; the message says which.</exception>
    /// <exception cref="IOException">The directory could not be read or written, or not be locked against a second history; the message says which.</exception>
    public MappedSampleHistory(string directory, MappedSampleHistoryOptions? options = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        options = OptionsValidator.Validate(options ?? new(), nameof(options));
        this.directory = Path.GetFullPath(directory);
        capacity = options.Capacity ?? long.MaxValue;
        segmentBytes = options.SegmentBytes;
        flushEachAppend = options.FlushEachAppend;
        Directory.CreateDirectory(this.directory);
        directoryLock = DirectoryLock.TryTake(this.directory, LockFile)
            ?? throw new SampleHistoryException($"The history in '{this.directory}' is in use: one at a time can be open on a directory.");
        try
        {
            Open();
        }
        catch
        {
            Close();
            throw;
        }
    }

    /// <inheritdoc />
    public long FirstIndex { get; private set; }

    /// <inheritdoc />
    public long EndIndex { get; private set; }

    /// <inheritdoc />
    public long Count => EndIndex - FirstIndex;

    /// <inheritdoc />
    public long? Capacity => capacity == long.MaxValue ? null : capacity;

    /// <summary>
    /// How many samples were cut off when the history was opened: appended before a power loss, but not whole on the disk. 0
    /// where all that were ever flushed are there and nothing else was lost, as after the end of a process.
    /// </summary>
    public long CutSamples { get; private set; }

    /// <inheritdoc />
    /// <remarks>
    /// Of a batch larger than the capacity the newest samples are kept; the others get an index, too, and are forgotten at
    /// once. Inputs that require a gradient are kept without their graph.
    /// </remarks>
    /// <exception cref="IOException">
    /// The samples could not be written, as when the disk is full. Nothing was kept. After a flush that failed this and all later calls
    /// fail: what is on the disk is only known when the history is opened again.
    /// </exception>
    /// <exception cref="SampleHistoryException">Somebody else has made a file of the history shorter, or removed it. Nothing was kept, and nothing can be appended any more.</exception>
    public long Append(Tensor inputs, Tensor targets)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        var given = SampleFormat.Of(inputs, targets, format, out var count);
        if (given.Bytes > LargestSampleBytes)
        {
            throw new ArgumentException($"A sample takes {given.Bytes:N0} bytes; a history on disk holds samples of up to {LargestSampleBytes:N0}.", nameof(inputs));
        }

        ThrowIfBroken();
        var (start, before) = (EndIndex, segments.Count);
        var end = start + count;
        try
        {
            if (segments.Count > 0 && segments[^1].End < end) CheckLengths();
            while (segments.Count == 0 || segments[^1].End < end)
            {
                var next = segments.Count == 0 ? start : segments[^1].End;
                var added = HistorySegment.Create(directory, given, next, RowsPerSegment(given));
                lock (listing) segments.Add(added);
            }

            CopyIn(inputs, targets, given, start, count);
            Commit(start, end);
        }
        catch (Exception e)
        {
            TakeBack(start, before, e);
            if (e is FlushFailedException) broken ??= e;
            throw;
        }

        format = given;
        EndIndex = end;
        FirstIndex = FirstAt(end);
        LetForgottenSegmentsGo();
        return start;
    }

    /// <inheritdoc />
    /// <remarks>The batch's tensors belong to no dispose scope: a scope around the call leaves them alone.</remarks>
    /// <exception cref="SampleHistoryException">A sample is damaged; <see cref="SampleHistoryException.SampleIndex"/> says which.</exception>
    public unsafe SampleBatch Gather(ReadOnlySpan<long> indices)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        HistoryIndices.CheckKept(indices, FirstIndex, EndIndex);
        var (inputs, targets) = format!.NewTensors(indices.Length);
        try
        {
            var (inputBytes, targetBytes) = ((int)format.Input.Bytes, (int)format.Target.Bytes);
            var input = TensorMemory.AddressOf(inputs);
            var target = TensorMemory.AddressOf(targets);
            foreach (var index in indices)
            {
                SegmentOf(index).Read(index, new Span<byte>(input, inputBytes), new Span<byte>(target, targetBytes));
                input += inputBytes;
                target += targetBytes;
            }

            return new SampleBatch(inputs, targets);
        }
        catch
        {
            inputs.Dispose();
            targets.Dispose();
            throw;
        }
    }

    /// <inheritdoc />
    /// <exception cref="IOException">The disk failed, now or at an earlier call: the history must be opened again.</exception>
    public void Flush()
    {
        HistorySegment[] current;
        lock (listing)
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            current = [.. segments];
        }

        // Samples that the disk did not take once are not to be taken for flushed because of a later try.
        ThrowIfBroken();
        try
        {
            // Outside of the lock: an append need not wait for the disk.
            foreach (var segment in current) segment.Flush();
        }
        catch (FlushFailedException e)
        {
            broken ??= e;
            throw;
        }
    }

    /// <summary>Reads every sample and checks that it is what was appended. Takes as long as reading all files does.</summary>
    /// <returns>The index of the first sample that is damaged; null when all are whole.</returns>
    /// <exception cref="ObjectDisposedException">The history is disposed.</exception>
    /// <exception cref="SampleHistoryException">Somebody else has made a file of the history shorter, or removed it.</exception>
    public long? Verify()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        foreach (var segment in segments)
        {
            segment.CheckLength();
            var end = segment.Start + segment.Committed;
            for (var index = Math.Max(FirstIndex, segment.Start); index < end; index++)
            {
                if (!segment.IsWhole(index)) return index;
            }
        }

        return null;
    }

    /// <summary>Flushes the samples to disk and closes the files. Batches that were gathered stay valid.</summary>
    /// <remarks>Where the disk fails, the samples are as safe as they were before.</remarks>
    public void Dispose()
    {
        if (disposed) return;
        try
        {
            Flush();
        }
        catch (IOException)
        {
            // Not to be thrown out of Dispose. A caller that must know calls Flush.
        }

        Close();
    }

    private void Close()
    {
        lock (listing)
        {
            disposed = true;
            foreach (var segment in segments) segment.Dispose();
            segments.Clear();
        }

        directoryLock.Dispose();
    }

    private void ThrowIfBroken()
    {
        if (broken is null) return;
        throw new SampleHistoryException($"What the history has on disk is not known after an earlier failure: close it and open it again. ({broken.Message})", broken);
    }

    private void Open()
    {
        foreach (var file in Directory.GetFiles(directory, "*" + HistorySegment.UnfinishedExtension))
        {
            if (HistorySegment.IsName(Path.GetFileName(file), HistorySegment.UnfinishedExtension)) File.Delete(file);
        }

        var files = Array.FindAll(Directory.GetFiles(directory, "*" + HistorySegment.Extension), f => HistorySegment.IsName(Path.GetFileName(f)));
        Array.Sort(files, StringComparer.Ordinal);
        foreach (var file in files)
        {
            var segment = HistorySegment.Open(file, out var cut);
            segments.Add(segment);
            if (format is null) EndIndex = segment.Start;
            format ??= segment.Format;
            CheckFollows(segment, file);
            if (segment.Start == EndIndex)
            {
                EndIndex += segment.Committed;
                FirstIndex = Math.Max(FirstIndex, segment.FirstIndex);
                CutSamples += cut;
                continue;
            }

            // The file before it lacks samples that never got to the disk, so that those in here have lost their place; or it was
            // made by an append that did not come to its end, and whose samples were never committed there.
            CutSamples += segment.Committed + cut;
            segments.RemoveAt(segments.Count - 1);
            segment.Delete();
        }

        if (format is null) return;

        // What was cut may have been newer than all that was kept.
        FirstIndex = Math.Min(Math.Max(FirstAt(EndIndex), segments[0].Start), EndIndex);
        LetForgottenSegmentsGo();
        SealFull(0, flushAll: false);
    }

    private void CheckFollows(HistorySegment segment, string file)
    {
        try
        {
            format!.Input.CheckMatches(segment.Format.Input, "inputs");
            format.Target.CheckMatches(segment.Format.Target, "targets");
        }
        catch (ArgumentException e)
        {
            throw new SampleHistoryException($"'{file}' is of another history: {e.Message}", e);
        }

        if (segment.Start == EndIndex || segment.Flushed == 0) return;
        throw new SampleHistoryException($"'{file}' begins with sample {segment.Start}, but those before it end at {EndIndex}: a file is missing or damaged.");
    }

    private long FirstAt(long end) => Math.Max(FirstIndex, end - Math.Min(end, capacity));

    private long RowsPerSegment(SampleFormat given)
    {
        var rows = Math.Max(1, segmentBytes / HistorySegment.StrideOf(given));
        return capacity == long.MaxValue ? rows : Math.Min(rows, Math.Max(1, capacity / SegmentsPerCapacity));
    }

    /// <summary>Copies the samples behind the newest one, into segments that are there, without making them visible.</summary>
    private void CopyIn(Tensor inputs, Tensor targets, SampleFormat given, long start, long count)
    {
        var stride = (int)HistorySegment.StrideOf(given);
        var rowsAtOnce = Math.Min(count, Math.Max(1, StagingBytes / stride));
        using var inputSource = inputs.detach();
        using var targetSource = targets.detach();
        var (inputRows, targetRows) = given.NewTensors(rowsAtOnce);
        var staging = ArrayPool<byte>.Shared.Rent((int)rowsAtOnce * stride);
        try
        {
            for (var row = 0L; row < count;)
            {
                var segment = SegmentOf(start + row);
                var rows = (int)Math.Min(Math.Min(rowsAtOnce, count - row), segment.End - (start + row));
                CopyRows(inputSource, row, inputRows, rows);
                CopyRows(targetSource, row, targetRows, rows);
                Interleave(inputRows, targetRows, given, start + row, rows, staging);
                segment.Write(start + row, staging.AsSpan(0, rows * stride));
                row += rows;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(staging);
            inputRows.Dispose();
            targetRows.Dispose();
        }
    }

    /// <summary>Lets libtorch copy: from any device, with any strides.</summary>
    private static void CopyRows(Tensor source, long sourceRow, Tensor destination, long rows)
    {
        using var from = source.narrow(0, sourceRow, rows);
        using var to = destination.narrow(0, 0, rows);
        to.copy_(from);
    }

    private static unsafe void Interleave(Tensor inputs, Tensor targets, SampleFormat given, long start, int rows, Span<byte> result)
    {
        var (inputBytes, targetBytes) = ((int)given.Input.Bytes, (int)given.Target.Bytes);
        var input = TensorMemory.AddressOf(inputs);
        var target = TensorMemory.AddressOf(targets);
        for (var row = 0; row < rows; row++)
        {
            var sample = result[..(inputBytes + targetBytes)];
            new ReadOnlySpan<byte>(input + ((long)row * inputBytes), inputBytes).CopyTo(sample);
            new ReadOnlySpan<byte>(target + ((long)row * targetBytes), targetBytes).CopyTo(sample[inputBytes..]);
            BinaryPrimitives.WriteUInt64LittleEndian(result[sample.Length..], HistorySegment.Checksum(start + row, sample[..inputBytes], sample[inputBytes..]));
            result = result[(sample.Length + HistorySegment.ChecksumBytes)..];
        }
    }

    /// <summary>Makes the samples [start, end) part of the history, all at once.</summary>
    private void Commit(long start, long end)
    {
        // From the last file to the first: those behind a file that is not full don't count, so that the first decides for all.
        var first = FirstAt(end);
        var lowest = SegmentIndexOf(start);
        for (var i = segments.Count - 1; i >= lowest; i--)
        {
            segments[i].Commit(Math.Min(end, segments[i].End) - segments[i].Start, first);
        }

        SealFull(lowest, flushEachAppend);
    }

    /// <summary>Flushes the files that are full, or all from one on, and then closes the full ones: nothing is written to those any more.</summary>
    private void SealFull(int lowest, bool flushAll)
    {
        for (var i = lowest; i < segments.Count; i++)
        {
            if (flushAll || segments[i].IsFull) segments[i].Flush();
        }

        for (var i = lowest; i < segments.Count; i++)
        {
            if (segments[i].IsFull) segments[i].Seal();
        }
    }

    /// <summary>Undoes an append that failed.</summary>
    private void TakeBack(long start, int segmentsBefore, Exception reason)
    {
        try
        {
            if (segmentsBefore > 0 && segments[segmentsBefore - 1].End > start) segments[segmentsBefore - 1].Commit(start - segments[segmentsBefore - 1].Start, FirstIndex);
            lock (listing)
            {
                for (var i = segmentsBefore; i < segments.Count; i++) segments[i].Delete();
                segments.RemoveRange(segmentsBefore, segments.Count - segmentsBefore);
            }
        }
        catch (IOException)
        {
            broken = reason;
        }
    }

    /// <summary>Looks whether all files are as long as they were made, so that reading them is no signal that ends the process.</summary>
    private void CheckLengths()
    {
        try
        {
            foreach (var segment in segments) segment.CheckLength();
        }
        catch (SampleHistoryException e)
        {
            broken = e;
            throw;
        }
    }

    private HistorySegment SegmentOf(long index) => segments[SegmentIndexOf(index)];

    private int SegmentIndexOf(long index)
    {
        var (low, high) = (0, segments.Count - 1);
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            if (segments[middle].Start <= index) low = middle;
            else high = middle - 1;
        }

        return low;
    }

    private void LetForgottenSegmentsGo()
    {
        // The newest stays, whatever is in it: it knows where the history ends.
        var forgotten = 0;
        while (forgotten < segments.Count - 1 && segments[forgotten].End <= FirstIndex) forgotten++;
        if (forgotten == 0) return;
        lock (listing)
        {
            for (var i = 0; i < forgotten; i++) segments[i].Delete();
            segments.RemoveRange(0, forgotten);
        }
    }
}
