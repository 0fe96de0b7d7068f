using System.Buffers;
using System.Buffers.Binary;
using System.IO.Hashing;
using System.IO.MemoryMappedFiles;
using ContinuousDL.Replication.Storage;
using Microsoft.Win32.SafeHandles;

namespace ContinuousDL.History;

/// <summary>
/// A file of a history on disk: room for the samples [<see cref="Start"/>, <see cref="End"/>), of which the first
/// <see cref="Committed"/> are there. Written through the file, read through a mapping of it.
/// </summary>
/// <remarks>
/// <para>
/// The file begins with a header that says which samples it has room for and what they look like. Two small records follow, which
/// are the only bytes that are ever overwritten: how many samples are committed, and how many of those are known to be on
/// disk. Then come the samples: input, target, and a checksum of both and of the sample's index.
/// </para>
/// <para>
/// Implementation notes. Samples are not written through the mapping, because a full disk would then be a signal that ends the
/// process; this way it is an exception. And the checksum is one of each sample, because samples are read one by one: it finds
/// damage just when it would do harm, and costs 8 bytes and a pass over what is in the cache already.
/// </para>
/// </remarks>
internal sealed unsafe class HistorySegment : IDisposable
{
    public const string Extension = ".samples";

    /// <summary>The end of the name of a file that is being made, until it has its header.</summary>
    public const string UnfinishedExtension = ".new";

    /// <summary>The bytes of a sample beside the sample.</summary>
    public const int ChecksumBytes = sizeof(ulong);

    /// <summary>The page that header and records take.</summary>
    private const int FirstSample = 4096;

    /// <summary>How many bytes are read at a time to see what is whole, unless a sample takes more.</summary>
    private const int ScanBytes = 1 << 18;

    private const int NameDigits = 20;
    private const int CommitRecord = 2048, FlushRecord = 3072;
    private const ulong Magic = 0x31_54_53_49_48_4c_44_43; // "CDLHIST1", read as little-endian bytes.

    private readonly string path;
    private readonly SampleFormat format;
    private readonly long stride;
    private SafeFileHandle? file;
    private SafeMemoryMappedViewHandle? mapping;
    private byte* samples;
    private long committed;
    private volatile bool isCut;
    private readonly Lock flushing = new();
    private FlushFailedException? flushFailure;

    private HistorySegment(string path, SampleFormat format, long start, long rows, SafeFileHandle file)
    {
        (this.path, this.format, Start, Rows, this.file) = (path, format, start, rows, file);
        stride = StrideOf(format);
    }

    /// <summary>The index of its first sample.</summary>
    public long Start { get; }

    /// <summary>How many samples it has room for.</summary>
    public long Rows { get; }

    /// <summary>One past the index of the last sample that it has room for.</summary>
    public long End => Start + Rows;

    /// <summary>How many samples are there.</summary>
    public long Committed => Volatile.Read(ref committed);

    public bool IsFull => Committed == Rows;

    /// <summary>How many samples are known to be on disk.</summary>
    public long Flushed { get; private set; }

    /// <summary>The index of the history's oldest sample, when the last ones were committed here.</summary>
    public long FirstIndex { get; private set; }

    public SampleFormat Format => format;

    /// <summary>Whether a name is that of a file of a history, or, with <see cref="UnfinishedExtension"/>, of one that is being made.</summary>
    public static bool IsName(string name, string addition = "")
    {
        return name.Length == NameDigits + Extension.Length + addition.Length
            && name.EndsWith(Extension + addition, StringComparison.Ordinal) && !name.AsSpan(0, NameDigits).ContainsAnyExceptInRange('0', '9');
    }

    /// <summary>The bytes that a sample takes.</summary>
    public static long StrideOf(SampleFormat format) => format.Bytes + ChecksumBytes;

    /// <summary>Makes a file. It survives a power loss, empty as it is.</summary>
    /// <exception cref="IOException">It could not be written.</exception>
    public static HistorySegment Create(string directory, SampleFormat format, long start, long rows)
    {
        var path = Path.Combine(directory, FormattableString.Invariant($"{start:D20}{Extension}"));
        var header = HeaderOf(format, start, rows);
        try
        {
            using (var made = File.OpenHandle(path + UnfinishedExtension, FileMode.CreateNew, FileAccess.Write, FileShare.None))
            {
                RandomAccess.Write(made, header, 0);
                RandomAccess.SetLength(made, LengthOf(format, rows));
                DurableFile.Flush(made, path);
            }

            DurableFile.Replace(path + UnfinishedExtension, path);
        }
        catch
        {
            DurableFile.TryDelete(path + UnfinishedExtension);
            throw;
        }

        var segment = new HistorySegment(path, format, start, rows, File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.Read));
        segment.Map();
        return segment;
    }

    /// <summary>Opens a file. Nothing of its samples is read but those that may not have got to the disk before a power loss.</summary>
    /// <param name="path">The file.</param>
    /// <param name="cut">How many samples at the end were committed, but are not whole, and are cut off.</param>
    /// <exception cref="SampleHistoryException">It is damaged.</exception>
    public static HistorySegment Open(string path, out long cut)
    {
        var file = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.Read);
        HistorySegment? segment = null;
        try
        {
            segment = ReadHeader(path, file);
            segment.ReadRecords(out cut);
            return segment;
        }
        catch
        {
            segment?.Dispose();
            file.Dispose();
            throw;
        }
    }

    /// <summary>Writes whole samples with their checksums, without committing them.</summary>
    /// <param name="index">The index of the first.</param>
    /// <param name="rows">The samples, packed.</param>
    public void Write(long index, ReadOnlySpan<byte> rows) => RandomAccess.Write(file!, rows, FirstSample + ((index - Start) * stride));

    /// <summary>Makes samples that were written part of the file: they survive the end of the process from here on.</summary>
    /// <param name="count">How many samples there are now.</param>
    /// <param name="firstIndex">The index of the history's oldest sample.</param>
    public void Commit(long count, long firstIndex)
    {
        WriteRecord(file!, CommitRecord, count, firstIndex);
        Volatile.Write(ref committed, count);
        FirstIndex = firstIndex;
    }

    /// <summary>Makes the committed samples survive a power loss. May be called while another thread does anything else with the file.</summary>
    /// <exception cref="FlushFailedException">The disk failed, and the file must not be flushed again: that may succeed without having written anything.</exception>
    public void Flush()
    {
        // One at a time: the system tells a failure once, and to one of those that wait.
        lock (flushing)
        {
            if (flushFailure is not null) throw flushFailure;
            var (handle, count) = (file, Committed);
            if (count <= Flushed || handle is null) return;
            try
            {
                DurableFile.Flush(handle, path);
                WriteRecord(handle, FlushRecord, count, 0);
                Flushed = count;
            }
            catch (FlushFailedException e)
            {
                flushFailure = e;
                throw;
            }
            catch (ObjectDisposedException)
            {
                // Sealed meanwhile, and so flushed, or deleted.
            }
        }
    }

    /// <summary>
    /// Looks whether the file is as long as it was made. One that somebody else has made shorter must not be read any more: reading
    /// the memory that it is mapped to would be a signal that ends the process.
    /// </summary>
    /// <exception cref="SampleHistoryException">It is shorter, or gone.</exception>
    public void CheckLength()
    {
        var (current, expected) = (new FileInfo(path), LengthOf(format, Rows));
        if (!current.Exists) throw new SampleHistoryException($"'{path}' was removed while the history was open.");
        if (current.Length >= expected && !isCut) return;
        isCut = true;
        throw new SampleHistoryException($"'{path}' was made shorter while the history was open: {current.Length:N0} bytes are left of {expected:N0}.");
    }

    /// <summary>Gives back what is needed only to write to the file.</summary>
    public void Seal()
    {
        file?.Dispose();
        file = null;
    }

    /// <summary>Copies a sample out of the file.</summary>
    /// <param name="index">The sample.</param>
    /// <param name="input">Receives its input.</param>
    /// <param name="target">Receives its target.</param>
    /// <exception cref="SampleHistoryException">It is damaged.</exception>
    public void Read(long index, Span<byte> input, Span<byte> target)
    {
        if (isCut) throw new SampleHistoryException($"Sample {index} can't be read: '{path}' was made shorter while the history was open.", sampleIndex: index);
        var row = Row(index);
        row[..input.Length].CopyTo(input);
        row.Slice(input.Length, target.Length).CopyTo(target);

        // Of the copies: they are in the cache, and what is given out is what was checked.
        if (Checksum(index, input, target) == BinaryPrimitives.ReadUInt64LittleEndian(row[^ChecksumBytes..])) return;
        throw new SampleHistoryException(
            $"Sample {index} is damaged: it does not have the checksum that it was kept with, in '{path}'.", sampleIndex: index);
    }

    public bool IsWhole(long index) => IsWhole(index, Row(index));

    /// <summary>The checksum of the target, with that of the input as its seed, whose own is the index: one for each sample at each place.</summary>
    public static ulong Checksum(long index, ReadOnlySpan<byte> input, ReadOnlySpan<byte> target) =>
        XxHash3.HashToUInt64(target, (long)XxHash3.HashToUInt64(input, index));

    public void Delete()
    {
        Dispose();
        File.Delete(path);
    }

    public void Dispose()
    {
        if (samples != null) mapping!.ReleasePointer();
        samples = null;
        mapping?.Dispose();
        file?.Dispose();
        file = null;
    }

    private bool IsWhole(long index, ReadOnlySpan<byte> row)
    {
        var (input, target) = (format.Input.Bytes, format.Target.Bytes);
        return Checksum(index, row[..(int)input], row.Slice((int)input, (int)target)) == BinaryPrimitives.ReadUInt64LittleEndian(row[^ChecksumBytes..]);
    }

    private static long LengthOf(SampleFormat format, long rows) => checked(FirstSample + (rows * StrideOf(format)));

    private static byte[] HeaderOf(SampleFormat format, long start, long rows)
    {
        var header = new byte[FirstSample];
        using var stream = new MemoryStream(header, 0, CommitRecord);
        using var writer = new BinaryWriter(stream);
        writer.Write(Magic);
        writer.Write(start);
        writer.Write(rows);
        format.Input.Save(writer);
        format.Target.Save(writer);
        writer.Write(XxHash3.HashToUInt64(header.AsSpan(0, (int)stream.Position)));
        return header;
    }

    private static HistorySegment ReadHeader(string path, SafeFileHandle file)
    {
        try
        {
            var header = new byte[CommitRecord];
            if (RandomAccess.Read(file, header, 0) < header.Length) throw new EndOfStreamException();
            using var stream = new MemoryStream(header);
            using var reader = new BinaryReader(stream);
            if (reader.ReadUInt64() != Magic) throw new InvalidDataException("it does not begin as one");
            var (start, rows) = (reader.ReadInt64(), reader.ReadInt64());
            var format = new SampleFormat(TensorFormat.Load(reader), TensorFormat.Load(reader));
            var bytes = (int)stream.Position;
            if (reader.ReadUInt64() != XxHash3.HashToUInt64(header.AsSpan(0, bytes))) throw new InvalidDataException("the checksum of its header is wrong");
            return new HistorySegment(path, format, start, rows, file);
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException)
        {
            var reason = e is InvalidDataException ? e.Message : "it is too short";
            throw new SampleHistoryException($"'{path}' is no file of a history, or damaged: {reason}.", e);
        }
    }

    private void ReadRecords(out long cut)
    {
        // A record that is damaged says nothing: then the samples themselves say how many there are.
        var isKnown = ReadRecord(CommitRecord, out var count, out var firstIndex) && count >= 0 && count <= Rows;
        if (!ReadRecord(FlushRecord, out var flushed, out _) || flushed < 0 || flushed > Rows) flushed = 0;

        // What was flushed was committed before: a record that says otherwise is not empty, but lost.
        if (count == 0 && flushed > 0) isKnown = false;
        Flushed = isKnown && flushed <= count ? flushed : 0;
        var length = RandomAccess.GetLength(file!);
        var inFile = Math.Clamp((length - FirstSample) / stride, 0, Rows);
        if (inFile < Flushed)
        {
            throw new SampleHistoryException($"'{path}' is cut short: of {Flushed} samples that were on disk it holds {inFile}.");
        }

        var whole = WriteWholeAgain(Flushed, Math.Min(isKnown ? count : Rows, inFile));
        cut = isKnown ? count - whole : 0;
        FirstIndex = isKnown ? firstIndex : Start;
        if (isKnown && cut == 0) committed = count;
        else CutAt(whole);
        if (RandomAccess.GetLength(file!) != LengthOf(format, Rows)) RandomAccess.SetLength(file!, LengthOf(format, Rows));
        Map();
    }

    /// <summary>
    /// Finds the first sample in [from, to) that is not whole, and writes those before it again: after a flush that failed the
    /// system takes for written what it has in memory only, and the next one would leave it there.
    /// </summary>
    /// <returns>The row of that sample; <paramref name="to"/> if there is none.</returns>
    private long WriteWholeAgain(long from, long to)
    {
        var atOnce = Math.Max(1, ScanBytes / stride);
        var buffer = from < to ? ArrayPool<byte>.Shared.Rent((int)(atOnce * stride)) : [];
        while (from < to)
        {
            var rows = buffer.AsSpan(0, (int)(Math.Min(atOnce, to - from) * stride));
            var read = RandomAccess.Read(file!, rows, FirstSample + (from * stride));
            var whole = 0L;
            while ((whole + 1) * stride <= read && IsWhole(Start + from + whole, rows.Slice((int)(whole * stride), (int)stride))) whole++;
            RandomAccess.Write(file!, rows[..(int)(whole * stride)], FirstSample + (from * stride));
            from += whole;
            if (whole == 0) break;
        }

        if (buffer.Length > 0) ArrayPool<byte>.Shared.Return(buffer);
        return from;
    }

    /// <summary>Ends the file at a sample, for good: what lies behind must not look whole should the record be lost later.</summary>
    private void CutAt(long count)
    {
        RandomAccess.SetLength(file!, FirstSample + (count * stride));
        Commit(count, FirstIndex);
        DurableFile.Flush(file!, path);
        WriteRecord(file!, FlushRecord, count, 0);
        Flushed = count;
    }

    private void Map()
    {
        using var map = MemoryMappedFile.CreateFromFile(file!, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: true);
        var length = LengthOf(format, Rows);

        // Linux is not told that access is random: it notices by itself, and with that advice reading what it has in memory was several times slower.
        // The view outlives the map and the file: a history of many files holds no handles on those that are full.
        mapping = map.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read).SafeMemoryMappedViewHandle;
        byte* start = null;
        mapping.AcquirePointer(ref start);
        samples = start + FirstSample;
    }

    private ReadOnlySpan<byte> Row(long index) => new(samples + ((index - Start) * stride), (int)stride);

    private void WriteRecord(SafeFileHandle handle, int position, long first, long second)
    {
        // One write within one sector of the disk: there or not there, also when the process or the machine ends meanwhile.
        Span<byte> record = stackalloc byte[24];
        BinaryPrimitives.WriteInt64LittleEndian(record, first);
        BinaryPrimitives.WriteInt64LittleEndian(record[8..], second);
        BinaryPrimitives.WriteUInt64LittleEndian(record[16..], XxHash3.HashToUInt64(record[..16], Start + position));
        RandomAccess.Write(handle, record, position);
    }

    /// <summary>Reads a record; one that was never written is zero.</summary>
    private bool ReadRecord(int position, out long first, out long second)
    {
        Span<byte> record = stackalloc byte[24];
        record.Clear();
        _ = RandomAccess.Read(file!, record, position);
        first = BinaryPrimitives.ReadInt64LittleEndian(record);
        second = BinaryPrimitives.ReadInt64LittleEndian(record[8..]);
        return !record.ContainsAnyExcept((byte)0)
            || BinaryPrimitives.ReadUInt64LittleEndian(record[16..]) == XxHash3.HashToUInt64(record[..16], Start + position);
    }
}
