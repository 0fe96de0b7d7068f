using System.Buffers.Binary;
using System.IO.Hashing;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>The parts of a message: header, payload (coordinates and values), checksum, signature.</summary>
internal readonly ref struct MessageFrame
{
    /// <summary>"CU": a continuous update.</summary>
    private const ushort Magic = 'C' | ('U' << 8);

    private const byte Version = 2;

    private const byte Whole = 1;
    private const byte Relative = 2;
    private const byte FullRunId = 4;
    private const int PrecisionShift = 3;
    private const int SignatureShift = 5;
    private const byte Unknown = 0x80;

    private const int RunIdSize = 16;
    private const int TagSize = 4;
    private const int DigestSize = 8;
    private const int ChecksumSize = 4;

    /// <summary>Reads the structure of a message and checks it against its checksum.</summary>
    /// <param name="message">The message, and nothing else.</param>
    /// <exception cref="WireFormatException">It is not one.</exception>
    public MessageFrame(ReadOnlySpan<byte> message)
    {
        var rest = message;
        if (ReadFixed(ref rest, 2) != Magic) throw new WireFormatException("The message does not begin with \"CU\": it is not an update.");
        var version = ReadFixed(ref rest, 1);
        if (version != Version) throw new WireFormatException($"The message has the format version {version}; this library reads version {Version}.");
        var flags = (byte)ReadFixed(ref rest, 1);
        Signing = (SignatureKind)((flags >> SignatureShift) & 3);
        var precision = (DeployedValuePrecision)((flags >> PrecisionShift) & 3);
        if ((flags & Unknown) != 0 || Signing > SignatureKind.EcdsaP256 || precision > DeployedValuePrecision.Float16)
        {
            throw new WireFormatException($"The message has flags that version {Version} does not know: 0x{flags:x2}.");
        }

        var trailer = ChecksumSize + UpdateSigning.SizeOf(Signing);
        if (rest.Length < trailer) ThrowTooShort();
        Signed = message[..^UpdateSigning.SizeOf(Signing)];
        Signature = message[Signed.Length..];
        var hashed = Signed[..^ChecksumSize];
        if ((uint)XxHash3.HashToUInt64(hashed) != BinaryPrimitives.ReadUInt32LittleEndian(Signed[hashed.Length..]))
        {
            throw new WireFormatException("The message does not match its checksum: it was damaged or cut off.");
        }

        rest = rest[..^trailer];
        var fingerprint = (uint)ReadFixed(ref rest, TagSize);
        Guid? runId = null;
        uint runTag;
        if ((flags & FullRunId) != 0)
        {
            if (rest.Length < RunIdSize) ThrowTooShort();
            runId = new Guid(rest[..RunIdSize], bigEndian: true);
            runTag = UpdateHeader.TagOf(runId.Value);
            rest = rest[RunIdSize..];
        }
        else
        {
            runTag = (uint)ReadFixed(ref rest, TagSize);
        }

        var sequence = ReadVariable(ref rest, long.MaxValue);
        var steps = ReadVariable(ref rest, sequence);
        var count = ReadVariable(ref rest, int.MaxValue);
        var isRelative = (flags & Relative) != 0;
        if (steps == 0) throw new WireFormatException("The message leads to the sequence that it starts from.");
        if (isRelative && (steps != 1 || (flags & Whole) != 0)) throw new WireFormatException("The message has relative values, but is not of a single step, or is whole.");
        Header = new UpdateHeader
        {
            RunTag = runTag,
            RunId = runId,
            FingerprintTag = fingerprint,
            Sequence = sequence,
            BaseSequence = sequence - steps,
            Count = (int)count,
            IsWhole = (flags & Whole) != 0,
            IsRelative = isRelative,
            ValuePrecision = precision,
            StateDigest = ReadFixed(ref rest, DigestSize),
            IsSigned = Signing != SignatureKind.None,
            Length = message.Length,
        };
        Payload = rest;
    }

    public UpdateHeader Header { get; }

    /// <summary>Coordinates and values.</summary>
    public ReadOnlySpan<byte> Payload { get; }

    public SignatureKind Signing { get; }

    /// <summary>The bytes that are signed: everything before the signature.</summary>
    public ReadOnlySpan<byte> Signed { get; }

    public ReadOnlySpan<byte> Signature { get; }

    /// <summary>Writes everything up to the payload.</summary>
    public static void WriteHeader(ModelUpdate update, bool isRelative, DeployedValuePrecision precision, SignatureKind signing, ref BitWriter writer)
    {
        var hasRunId = update.BaseSequence == 0;
        var flags = (update.IsWhole ? Whole : 0) | (isRelative ? Relative : 0) | (hasRunId ? FullRunId : 0)
            | ((int)precision << PrecisionShift) | ((int)signing << SignatureShift);
        writer.WriteLittleEndian(Magic, 2);
        writer.WriteLittleEndian(Version, 1);
        writer.WriteLittleEndian((ulong)flags, 1);
        writer.WriteLittleEndian(UpdateHeader.TagOf(update.Layout), TagSize);
        if (hasRunId)
        {
            Span<byte> id = stackalloc byte[RunIdSize];
            update.RunId.TryWriteBytes(id, bigEndian: true, out _);
            writer.WriteBytes(id);
        }
        else
        {
            writer.WriteLittleEndian(UpdateHeader.TagOf(update.RunId), TagSize);
        }

        writer.WriteVariable((ulong)update.Sequence);
        writer.WriteVariable((ulong)(update.Sequence - update.BaseSequence));
        writer.WriteVariable((ulong)update.Count);
        writer.WriteLittleEndian(update.StateDigest, DigestSize);
    }

    /// <summary>Ends what is signed: pads to a byte and writes the checksum.</summary>
    public static void WriteChecksum(ref BitWriter writer)
    {
        writer.PadToByte();
        writer.WriteLittleEndian((uint)XxHash3.HashToUInt64(writer.Written), ChecksumSize);
        writer.PadToByte();
    }

    private static ulong ReadFixed(ref ReadOnlySpan<byte> rest, int bytes)
    {
        if (rest.Length < bytes) ThrowTooShort();
        var value = 0ul;
        for (var i = 0; i < bytes; i++) value |= (ulong)rest[i] << (8 * i);
        rest = rest[bytes..];
        return value;
    }

    /// <summary>Reads a number of 7-bit groups, which must be written in as few of them as it takes.</summary>
    private static long ReadVariable(ref ReadOnlySpan<byte> rest, long largest)
    {
        var value = 0ul;
        for (var shift = 0; shift < 63; shift += 7)
        {
            var group = ReadFixed(ref rest, 1);
            value |= (group & 0x7f) << shift;
            if (group >= 0x80) continue;
            if (value > (ulong)largest || (group == 0 && shift > 0)) break;
            return (long)value;
        }

        throw new WireFormatException($"The message has a number that is above {largest:N0}, or has needless zeros.");
    }

    private static void ThrowTooShort() => throw new WireFormatException("The message is too short to be one: it was cut off.");
}
