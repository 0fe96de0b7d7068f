using System.Buffers;
using System.Buffers.Binary;
using System.IO.Hashing;
using ContinuousDL.Replication.Storage;
using ContinuousDL.Replication.Wire;
using Microsoft.Win32.SafeHandles;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>A file of consecutive updates: a header, and then one record after the other.</summary>
/// <remarks>
/// The index of the records is kept in memory, the messages are not. Reading needs no lock on the file and may go on while
/// another process appends. Not thread-safe.
/// </remarks>
internal sealed class LogSegment
{
    /// <summary>The header, little-endian: magic and version (8 bytes), run (16), model fingerprint (16), base sequence (8), XXH3 of these (8).</summary>
    private const int HeaderBytes = 56;

    /// <summary>"CDLLOG", and the version 1.</summary>
    private const ulong Magic = 0x0001_474f_4c4c_4443;

    private const int SearchWindow = 1 << 20;

    private readonly List<LogRecord> records = [];
    private readonly long seed;

    private LogSegment(string path, Guid runId, UInt128 fingerprint, long baseSequence)
    {
        Path = path;
        RunId = runId;
        Fingerprint = fingerprint;
        BaseSequence = baseSequence;
        seed = Seed(runId, baseSequence);
    }

    public string Path { get; }

    public Guid RunId { get; }

    /// <summary>The model's fingerprint; 0 while the file has no header yet.</summary>
    public UInt128 Fingerprint { get; private set; }

    /// <summary>The sequence of the state that its first update starts from.</summary>
    public long BaseSequence { get; }

    /// <summary>The sequence of the state that its last update leads to.</summary>
    public long End => SequenceAfter(records.Count);

    /// <summary>The records, in the order of their sequences.</summary>
    public IReadOnlyList<LogRecord> Records => records;

    /// <summary>Up to where the file is known to be valid, in bytes.</summary>
    public long Length { get; private set; }

    /// <summary>Whether no record at all, however small, can be in a file without making it as large as this.</summary>
    public static bool IsFullWithOne(int segmentBytes) => segmentBytes <= HeaderBytes + LogRecord.HeaderBytes;

    /// <summary>A file of updates that is there; what is in it is read by <see cref="Scan"/>.</summary>
    /// <param name="path">The file.</param>
    /// <param name="runId">The run that it must be of.</param>
    /// <param name="baseSequence">The base sequence that it must have.</param>
    public static LogSegment At(string path, Guid runId, long baseSequence) => new(path, runId, default, baseSequence);

    /// <summary>Makes a file, with its first record. It is written once, from its beginning to its end, under the name that it keeps.</summary>
    /// <param name="path">The file.</param>
    /// <param name="runId">The run.</param>
    /// <param name="fingerprint">The model's fingerprint.</param>
    /// <param name="baseSequence">The sequence of the state that its first update starts from.</param>
    /// <param name="record">Room for the record's header, and its message.</param>
    /// <param name="sequence">The sequence that it leads to.</param>
    /// <param name="time">Now, in milliseconds since 1970.</param>
    /// <param name="file">The file, open for more records to be appended.</param>
    /// <exception cref="FlushFailedException">The disk failed.</exception>
    /// <exception cref="IOException">It could not be written; it is not there.</exception>
    public static LogSegment Create(
        string path, Guid runId, UInt128 fingerprint, long baseSequence, Span<byte> record, long sequence, long time, out SafeFileHandle file)
    {
        var segment = new LogSegment(path, runId, fingerprint, baseSequence);
        LogRecord.WriteHeader(record, sequence, time, segment.seed);
        var content = ArrayPool<byte>.Shared.Rent(HeaderBytes + record.Length);
        file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
        try
        {
            segment.WriteHeader(content);
            record.CopyTo(content.AsSpan(HeaderBytes));
            RandomAccess.Write(file, content.AsSpan(0, HeaderBytes + record.Length), 0);
            DurableFile.Flush(file, path);
            DurableFile.FlushDirectory(System.IO.Path.GetDirectoryName(path)!);
        }
        catch (Exception e)
        {
            file.Dispose();

            // After a failed flush the record may be there or not: the next opening makes sure of one of them.
            if (e is not FlushFailedException) DurableFile.TryDelete(path);
            throw;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(content);
        }

        segment.Length = HeaderBytes;
        segment.Add(record.Length, sequence, time);
        return segment;
    }

    /// <summary>Opens the file for records to be appended.</summary>
    public SafeFileHandle OpenForAppending() => File.OpenHandle(Path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);

    /// <summary>Reads the records that have come since.</summary>
    /// <returns>How many bytes there are after the last valid record: of one, or of a header, that is not written wholly.</returns>
    /// <exception cref="UpdateLogDamagedException">The header or a record is damaged, and it is not the last thing that was written.</exception>
    public long Scan()
    {
        using var file = OpenForReading(Path);
        var end = RandomAccess.GetLength(file);
        if (end < Length)
        {
            // The machine of the writer went down with records that were here already, but not on its disk.
            records.Clear();
            Length = 0;
        }

        if (Length == 0 && !ReadHeader(file))
        {
            ThrowIfValidRecordFollows(file, 0, end);
            return end;
        }

        Span<byte> header = stackalloc byte[LogRecord.HeaderBytes];
        while (Length < end)
        {
            var (record, baseSequence, valid) = Read(file, Length, end, header);
            if (!valid || record.Sequence <= End)
            {
                ThrowIfValidRecordFollows(file, Length + 1, end);
                return end - Length;
            }

            if (baseSequence > End) throw new UpdateLogDamagedException(Path, Length, $"an update from {baseSequence} to {record.Sequence} follows on {End}: those in between are missing.");
            records.Add(record);
            Length = record.End;
        }

        return 0;
    }

    /// <summary>Appends a record to the file and the index.</summary>
    /// <param name="file">The file, open for appending.</param>
    /// <param name="record">Room for the header, and the message.</param>
    /// <param name="sequence">The sequence that it leads to.</param>
    /// <param name="time">Now, in milliseconds since 1970.</param>
    /// <param name="flush">Whether to wait until the disk has it.</param>
    public void Append(SafeFileHandle file, Span<byte> record, long sequence, long time, bool flush)
    {
        LogRecord.WriteHeader(record, sequence, time, seed);
        RandomAccess.Write(file, record, Length);
        if (flush) DurableFile.Flush(file, Path);
        Add(record.Length, sequence, time);
    }

    /// <summary>Removes what follows the last valid record.</summary>
    /// <param name="file">The file, open for appending.</param>
    public void CutTail(SafeFileHandle file) => RandomAccess.SetLength(file, Length);

    /// <summary>
    /// Has the disk have what the file holds. It is written again for that, since after a flush that failed the system takes for
    /// written what it has in memory only.
    /// </summary>
    /// <param name="file">The file, open for appending.</param>
    public void WriteAgain(SafeFileHandle file)
    {
        var bytes = ArrayPool<byte>.Shared.Rent(SearchWindow);
        try
        {
            for (var offset = 0L; offset < Length;)
            {
                var part = bytes.AsSpan(0, (int)Math.Min(SearchWindow, Length - offset));
                part = part[..ReadFully(file, part, offset)];
                if (part.IsEmpty) throw new EndOfStreamException($"'{Path}' has become shorter while it was read.");
                RandomAccess.Write(file, part, offset);
                offset += part.Length;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }

        DurableFile.Flush(file, Path);
    }

    /// <summary>Whether the state of a sequence is one that an update of this file starts from or leads to.</summary>
    public bool Knows(long sequence) => sequence == BaseSequence || sequence == SequenceAfter(CountUpTo(sequence));

    /// <summary>How many of its updates lead to a sequence or one before it.</summary>
    public int CountUpTo(long sequence)
    {
        var (low, high) = (0, records.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (records[middle].Sequence <= sequence) low = middle + 1;
            else high = middle;
        }

        return low;
    }

    /// <summary>The sequence of the state after so many of its updates.</summary>
    public long SequenceAfter(int count) => count == 0 ? BaseSequence : records[count - 1].Sequence;

    /// <summary>A part of the segment's updates, to be read whenever the reader likes.</summary>
    /// <param name="from">The sequence of a state.</param>
    /// <param name="to">The sequence of a later one. The updates after the former, up to the latter, are in it.</param>
    public SegmentRange Slice(long from, long to)
    {
        var first = CountUpTo(from);
        return new SegmentRange(Path, SequenceAfter(first), records.GetRange(first, CountUpTo(to) - first));
    }

    public static SafeFileHandle OpenForReading(string path) =>
        File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);

    /// <summary>Reads as many bytes as there are, up to those asked for.</summary>
    public static int ReadFully(SafeFileHandle file, Span<byte> bytes, long offset)
    {
        var count = 0;
        while (count < bytes.Length)
        {
            var read = RandomAccess.Read(file, bytes[count..], offset + count);
            if (read == 0) break;
            count += read;
        }

        return count;
    }

    /// <summary>The run and the place keep a record of another file from being taken for one of this.</summary>
    private static long Seed(Guid runId, long baseSequence)
    {
        Span<byte> bytes = stackalloc byte[16];
        runId.TryWriteBytes(bytes);
        return (long)XxHash3.HashToUInt64(bytes, baseSequence);
    }

    private void WriteHeader(Span<byte> header)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
        RunId.TryWriteBytes(header[8..]);
        BinaryPrimitives.WriteUInt128LittleEndian(header[24..], Fingerprint);
        BinaryPrimitives.WriteInt64LittleEndian(header[40..], BaseSequence);
        BinaryPrimitives.WriteUInt64LittleEndian(header[48..], XxHash3.HashToUInt64(header[..48]));
    }

    /// <summary>Reads the header.</summary>
    /// <returns>Whether there is one: not so while the file is being made, nor when a crash kept it from being made.</returns>
    /// <exception cref="UpdateLogDamagedException">It is not the header of this file.</exception>
    private bool ReadHeader(SafeFileHandle file)
    {
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (ReadFully(file, header, 0) < HeaderBytes || !header.ContainsAnyExcept((byte)0)) return false;
        if (BinaryPrimitives.ReadUInt64LittleEndian(header) != Magic
            || BinaryPrimitives.ReadUInt64LittleEndian(header[48..]) != XxHash3.HashToUInt64(header[..48])
            || new Guid(header.Slice(8, 16)) != RunId
            || BinaryPrimitives.ReadInt64LittleEndian(header[40..]) != BaseSequence)
        {
            throw new UpdateLogDamagedException(Path, 0, "it does not begin with the header of this file of updates.");
        }

        Fingerprint = BinaryPrimitives.ReadUInt128LittleEndian(header[24..]);
        Length = HeaderBytes;
        return true;
    }

    private void Add(int bytes, long sequence, long time)
    {
        records.Add(new LogRecord(Length + LogRecord.HeaderBytes, bytes - LogRecord.HeaderBytes, sequence, time));
        Length += bytes;
    }

    private (LogRecord Record, long BaseSequence, bool Valid) Read(SafeFileHandle file, long offset, long end, Span<byte> header)
    {
        if (end - offset < LogRecord.HeaderBytes || ReadFully(file, header, offset) < header.Length) return default;
        var length = LogRecord.LengthOf(header);
        if (length < 0 || length > end - offset - LogRecord.HeaderBytes || length > Array.MaxLength - LogRecord.HeaderBytes) return default;
        var bytes = ArrayPool<byte>.Shared.Rent(LogRecord.HeaderBytes + length);
        try
        {
            var record = bytes.AsSpan(0, LogRecord.HeaderBytes + length);
            if (ReadFully(file, record, offset) < record.Length || !LogRecord.IsValid(record, seed)) return default;
            var place = new LogRecord(offset + LogRecord.HeaderBytes, length, LogRecord.SequenceOf(record), LogRecord.TimeOf(record));
            return (place, UpdateCodec.ReadHeader(record[LogRecord.HeaderBytes..]).BaseSequence, true);
        }
        catch (WireFormatException e)
        {
            throw new UpdateLogDamagedException(Path, offset, $"the record is whole, but holds no update. {e.Message}", e);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }

    /// <summary>A crash leaves something unfinished at the end alone: where more follows, the file was damaged later.</summary>
    private void ThrowIfValidRecordFollows(SafeFileHandle file, long offset, long end)
    {
        var window = ArrayPool<byte>.Shared.Rent(SearchWindow);
        try
        {
            Span<byte> magic = stackalloc byte[sizeof(uint)];
            Span<byte> header = stackalloc byte[LogRecord.HeaderBytes];
            BinaryPrimitives.WriteUInt32LittleEndian(magic, LogRecord.Magic);
            while (offset < end)
            {
                var count = ReadFully(file, window.AsSpan(0, SearchWindow), offset);
                for (var i = 0; i < count;)
                {
                    var next = window.AsSpan(i, count - i).IndexOf(magic);
                    if (next < 0) break;
                    i += next;
                    if (Read(file, offset + i, end, header).Valid)
                    {
                        throw new UpdateLogDamagedException(Path, Length, $"what follows on the state {End} is not valid, and at byte {offset + i:N0} there is a record that is.");
                    }

                    i++;
                }

                // The last bytes again with the next window: a magic may lie across its border.
                offset += count <= sizeof(uint) || count < SearchWindow ? count : count - sizeof(uint);
                if (count == 0) return;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(window);
        }
    }
}
