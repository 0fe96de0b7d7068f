using System.Buffers.Binary;
using System.IO.Hashing;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>Where a record of a segment is.</summary>
/// <param name="Offset">Where its message begins, in bytes from the beginning of the file.</param>
/// <param name="Length">The length of its message in bytes.</param>
/// <param name="Sequence">The sequence of the state that its update leads to.</param>
/// <param name="Time">When it was appended, in milliseconds since 1970, UTC.</param>
internal readonly record struct LogRecord(long Offset, int Length, long Sequence, long Time)
{
    /// <summary>
    /// What a record has before its message, little-endian: magic (4 bytes), length of the message (4), sequence (8), time (8),
    /// and the XXH3 of these and the message, with the segment's seed (8).
    /// </summary>
    public const int HeaderBytes = 32;

    /// <summary>"CDLU": what a record begins with, so that records after a damaged place can be found.</summary>
    public const uint Magic = 0x554c4443;

    private const int ChecksumOffset = 24;

    public long End => Offset + Length;

    /// <summary>Writes the header of a record, whose message is there already.</summary>
    /// <param name="record">The whole record, with room for the header at its beginning.</param>
    /// <param name="sequence">The sequence that it leads to.</param>
    /// <param name="time">Now, in milliseconds since 1970.</param>
    /// <param name="seed">The segment's seed.</param>
    public static void WriteHeader(Span<byte> record, long sequence, long time, long seed)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(record, Magic);
        BinaryPrimitives.WriteInt32LittleEndian(record[4..], record.Length - HeaderBytes);
        BinaryPrimitives.WriteInt64LittleEndian(record[8..], sequence);
        BinaryPrimitives.WriteInt64LittleEndian(record[16..], time);
        BinaryPrimitives.WriteUInt64LittleEndian(record[ChecksumOffset..], Checksum(record, seed));
    }

    /// <summary>The length of the message, from a header's bytes; negative where these are no header.</summary>
    public static int LengthOf(ReadOnlySpan<byte> header) =>
        BinaryPrimitives.ReadUInt32LittleEndian(header) == Magic ? BinaryPrimitives.ReadInt32LittleEndian(header[4..]) : -1;

    public static long SequenceOf(ReadOnlySpan<byte> header) => BinaryPrimitives.ReadInt64LittleEndian(header[8..]);

    public static long TimeOf(ReadOnlySpan<byte> header) => BinaryPrimitives.ReadInt64LittleEndian(header[16..]);

    /// <summary>Whether a record is as it was written.</summary>
    public static bool IsValid(ReadOnlySpan<byte> record, long seed) =>
        BinaryPrimitives.ReadUInt64LittleEndian(record[ChecksumOffset..]) == Checksum(record, seed);

    private static ulong Checksum(ReadOnlySpan<byte> record, long seed)
    {
        // The hash of the header is the seed for the message: no copy of either is needed.
        var header = XxHash3.HashToUInt64(record[..ChecksumOffset], seed);
        return XxHash3.HashToUInt64(record[HeaderBytes..], (long)header);
    }
}
