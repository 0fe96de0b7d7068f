using System.Buffers.Binary;
using System.IO.Hashing;

namespace ContinuousDL.Replication.Wire;

/// <summary>A heartbeat as bytes: 56 of fixed places, and the signature of all of them.</summary>
internal static class HeartbeatFrame
{
    /// <summary>The size without the signature.</summary>
    public const int SignedSize = ChecksumAt + sizeof(uint);

    /// <summary>"CH": so that no signature of a heartbeat is one of an update.</summary>
    private const ushort Magic = 'C' | ('H' << 8);

    private const byte Version = 1;
    private const int SignatureShift = 5;
    private const int RunAt = 4;
    private const int SequenceAt = RunAt + 16;
    private const int DigestAt = SequenceAt + sizeof(long);
    private const int IssuedAt = DigestAt + sizeof(ulong);
    private const int ExpiresAt = IssuedAt + sizeof(long);
    private const int ChecksumAt = ExpiresAt + sizeof(long);

    /// <summary>Writes everything but the signature.</summary>
    public static void Write(UpdateHeartbeat heartbeat, SignatureKind signing, Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, Magic);
        bytes[2] = Version;
        bytes[3] = (byte)((int)signing << SignatureShift);
        heartbeat.RunId.TryWriteBytes(bytes[RunAt..], bigEndian: true, out _);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[SequenceAt..], heartbeat.Sequence);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[DigestAt..], heartbeat.StateDigest);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[IssuedAt..], heartbeat.IssuedAt.ToUnixTimeMilliseconds());
        BinaryPrimitives.WriteInt64LittleEndian(bytes[ExpiresAt..], heartbeat.ExpiresAt.ToUnixTimeMilliseconds());
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[ChecksumAt..], (uint)XxHash3.HashToUInt64(bytes[..ChecksumAt]));
    }

    /// <summary>Reads everything but the signature, of which it says only how it was made.</summary>
    /// <exception cref="WireFormatException">It is no heartbeat.</exception>
    public static UpdateHeartbeat Read(ReadOnlySpan<byte> bytes, out SignatureKind signing)
    {
        if (bytes.Length < SignedSize || BinaryPrimitives.ReadUInt16LittleEndian(bytes) != Magic) throw new WireFormatException("This is no heartbeat: it is too short, or does not begin with \"CH\".");
        if (bytes[2] != Version) throw new WireFormatException($"The heartbeat has the format version {bytes[2]}; this library reads version {Version}.");
        signing = (SignatureKind)(bytes[3] >> SignatureShift);
        if (signing > SignatureKind.EcdsaP256 || bytes[3] != (int)signing << SignatureShift) throw new WireFormatException($"The heartbeat has flags that version {Version} does not know: 0x{bytes[3]:x2}.");
        if (bytes.Length != SignedSize + UpdateSigning.SizeOf(signing)) throw new WireFormatException($"The heartbeat takes {bytes.Length} bytes; with its signature it would be {SignedSize + UpdateSigning.SizeOf(signing)}.");
        if ((uint)XxHash3.HashToUInt64(bytes[..ChecksumAt]) != BinaryPrimitives.ReadUInt32LittleEndian(bytes[ChecksumAt..])) throw new WireFormatException("The heartbeat does not match its checksum: it was damaged.");
        var sequence = BinaryPrimitives.ReadInt64LittleEndian(bytes[SequenceAt..]);
        if (sequence < 0) throw new WireFormatException($"The heartbeat has the sequence {sequence}, which there is not.");
        return new UpdateHeartbeat(
            new Guid(bytes.Slice(RunAt, 16), bigEndian: true),
            sequence,
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[DigestAt..]),
            ReadTime(bytes[IssuedAt..]),
            ReadTime(bytes[ExpiresAt..]));
    }

    private static DateTimeOffset ReadTime(ReadOnlySpan<byte> bytes)
    {
        var milliseconds = BinaryPrimitives.ReadInt64LittleEndian(bytes);
        if (milliseconds < DateTimeOffset.MinValue.ToUnixTimeMilliseconds() || milliseconds > DateTimeOffset.MaxValue.ToUnixTimeMilliseconds())
        {
            throw new WireFormatException($"The heartbeat has the time {milliseconds}, which there is not.");
        }

        return DateTimeOffset.FromUnixTimeMilliseconds(milliseconds);
    }
}
