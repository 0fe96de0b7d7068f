using System.Buffers;
using System.Buffers.Binary;
using System.IO.Hashing;
using ContinuousDL.Storage;
using Microsoft.Win32.SafeHandles;

namespace ContinuousDL.UpdateLogs;

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
        Length = HeaderBytes;
        seed = Seed(runId, baseSequence);
    }

    public string Path { get; }

    public Guid RunId { get; }

    public UInt128 Fingerprint { get; }

    /// <summary>The sequence of the state that its first update starts from.</summary>
    public long BaseSequence { get; }

    /// <summary>The sequence of the state that its last update leads to.</summary>
    public long End => BaseSequence + records.Count;

    /// <summary>The records, in the order of their sequences.</summary>
    public IReadOnlyList<LogRecord> Records => records;

    /// <summary>Up to where the file is known to be valid, in bytes.</summary>
    public long Length { get; private set; }

    /// <summary>Makes a file without records.</summary>
    public static LogSegment Create(string path, Guid runId, UInt128 fingerprint, long baseSequence)
    {
        var header = new byte[HeaderBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
        runId.TryWriteBytes(header.AsSpan(8));
        BinaryPrimitives.WriteUInt128LittleEndian(header.AsSpan(24), fingerprint);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(40), baseSequence);
        BinaryPrimitives.WriteUInt64LittleEndian(header.AsSpan(48), XxHash3.HashToUInt64(header.AsSpan(0, 48)));

        // Whole from the beginning, so that only records can be cut off by a crash.
        DurableFile.Write(path, stream => stream.Write(header));
        return new LogSegment(path, runId, fingerprint, baseSequence);
    }

    /// <summary>Opens a file; its records are read by <see cref="Scan"/>.</summary>
    /// <param name="path">The file.</param>
    /// <param name="runId">The run that it must be of.</param>
    /// <param name="baseSequence">The base sequence that it must have.</param>
    /// <exception cref="UpdateLogDamagedException">It has no valid header, or that of another file.</exception>
    public static LogSegment Open(string path, Guid runId, long baseSequence)
    {
        using var file = OpenForReading(path);
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (ReadFully(file, header, 0) < HeaderBytes
            || BinaryPrimitives.ReadUInt64LittleEndian(header) != Magic
            || BinaryPrimitives.ReadUInt64LittleEndian(header[48..]) != XxHash3.HashToUInt64(header[..48])
            || new Guid(header.Slice(8, 16)) != runId
            || BinaryPrimitives.ReadInt64LittleEndian(header[40..]) != baseSequence)
        {
            throw new UpdateLogDamagedException(path, 0, "it does not begin with the header of this file of updates.");
        }

        return new LogSegment(path, runId, BinaryPrimitives.ReadUInt128LittleEndian(header[24..]), baseSequence);
    }

    /// <summary>Opens a file for records to be appended.</summary>
    public SafeFileHandle OpenForAppending() => File.OpenHandle(Path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);

    /// <summary>Reads the records that have come since.</summary>
    /// <returns>How many bytes there are after the last valid record: of one that is not written wholly.</returns>
    /// <exception cref="UpdateLogDamagedException">A record is damaged, and valid ones follow it.</exception>
    public long Scan()
    {
        using var file = OpenForReading(Path);
        var end = RandomAccess.GetLength(file);
        if (end < Length)
        {
            // The machine of the writer went down with records that were here already, but not on its disk.
            records.Clear();
            Length = HeaderBytes;
        }

        Span<byte> header = stackalloc byte[LogRecord.HeaderBytes];
        while (Length < end)
        {
            var (record, valid) = Read(file, Length, end, header);
            if (!valid || LogRecord.SequenceOf(header) != End + 1)
            {
                ThrowIfValidRecordFollows(file, Length + 1, end);
                return end - Length;
            }

            records.Add(record);
            Length = record.End;
        }

        return 0;
    }

    /// <summary>Appends a record to the file and the index.</summary>
    /// <param name="file">The file, open for appending.</param>
    /// <param name="record">Room for the header, and the message.</param>
    /// <param name="time">Now, in milliseconds since 1970.</param>
    /// <param name="flush">Whether to wait until the disk has it.</param>
    public void Append(SafeFileHandle file, Span<byte> record, long time, bool flush)
    {
        LogRecord.WriteHeader(record, End + 1, time, seed);
        RandomAccess.Write(file, record, Length);
        if (flush) RandomAccess.FlushToDisk(file);
        records.Add(new LogRecord(Length + LogRecord.HeaderBytes, record.Length - LogRecord.HeaderBytes, time));
        Length += record.Length;
    }

    /// <summary>Removes what follows the last valid record.</summary>
    public void CutTail()
    {
        using var file = OpenForAppending();
        RandomAccess.SetLength(file, Length);
        RandomAccess.FlushToDisk(file);
    }

    /// <summary>A part of the segment's updates, to be read whenever the reader likes.</summary>
    /// <param name="from">The sequence of the state that the first of them starts from.</param>
    /// <param name="to">The sequence of the state that the last of them leads to.</param>
    public LogSlice Slice(long from, long to) => new(Path, from, records.GetRange((int)(from - BaseSequence), (int)(to - from)));

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

    private (LogRecord Record, bool Valid) Read(SafeFileHandle file, long offset, long end, Span<byte> header)
    {
        if (end - offset < LogRecord.HeaderBytes || ReadFully(file, header, offset) < header.Length) return default;
        var length = LogRecord.LengthOf(header);
        if (length < 0 || length > end - offset - LogRecord.HeaderBytes || length > Array.MaxLength - LogRecord.HeaderBytes) return default;
        var bytes = ArrayPool<byte>.Shared.Rent(LogRecord.HeaderBytes + length);
        try
        {
            var record = bytes.AsSpan(0, LogRecord.HeaderBytes + length);
            var valid = ReadFully(file, record, offset) == record.Length && LogRecord.IsValid(record, seed);
            return (new LogRecord(offset + LogRecord.HeaderBytes, length, LogRecord.TimeOf(record)), valid);
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
                        throw new UpdateLogDamagedException(Path, Length, $"the record of update {End + 1} is not valid, and one that is follows at byte {offset + i:N0}.");
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
