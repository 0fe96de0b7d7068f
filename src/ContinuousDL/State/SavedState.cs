using System.Buffers;
using System.Text;

namespace ContinuousDL.State;

/// <summary>Saves and loads the state of a part, always in the same form, and checks it before the part changes.</summary>
/// <remarks>
/// The form, little-endian: the number of bytes of the kind (uint16) and the kind in UTF-8; the version (int32); the number of bytes
/// that follow (int64); and these, which only the part understands. The state of a part within another's is part of those bytes.
/// </remarks>
public static class SavedState
{
    /// <summary>The most bytes that <see cref="IStateful.StateKind"/> may take: enough for some sentences, so that data which is no state is seen not to be one.</summary>
    public const int MaxKindBytes = 1024;

    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Writes the state of a part.</summary>
    /// <param name="part">The part.</param>
    /// <param name="writer">The writer. Stays open. Where its stream can't seek, the part writes its state twice, once to learn the length.</param>
    /// <exception cref="InvalidOperationException">The part's kind or version is out of its range, or the part wrote another state the second time.</exception>
    public static void SaveState(this IStateful part, BinaryWriter writer)
    {
        ArgumentNullException.ThrowIfNull(part);
        ArgumentNullException.ThrowIfNull(writer);
        WriteHeader(part, writer);
        var stream = writer.BaseStream;
        if (!stream.CanSeek)
        {
            WriteMeasured(part, writer);
            return;
        }

        var start = stream.Position;
        writer.Write(0L);
        part.WriteState(writer);
        writer.Flush();
        var end = stream.Position;
        stream.Position = start;
        writer.Write(end - start - sizeof(long));
        writer.Flush();
        stream.Position = end;
    }

    /// <summary>
    /// Makes a part go on from a state that <see cref="SaveState"/> wrote; the reader is behind it then. Where this fails, the part is
    /// as it was, and the reader somewhere within the state.
    /// </summary>
    /// <param name="part">The part.</param>
    /// <param name="reader">The reader. Stays open.</param>
    /// <exception cref="InvalidDataException">
    /// The state is of another kind of part or of a later version, cut short, longer than the part can read, or damaged.
    /// </exception>
    public static void LoadState(this IStateful part, BinaryReader reader) => part.ReadState(reader)();

    /// <summary>
    /// Reads a state that <see cref="SaveState"/> wrote, and changes nothing yet: for a part whose state is part of another's. The
    /// reader is behind it then.
    /// </summary>
    /// <param name="part">The part.</param>
    /// <param name="reader">The reader. Stays open.</param>
    /// <returns>An action that makes the part go on from what was read. It can't fail.</returns>
    /// <exception cref="InvalidDataException">As for <see cref="LoadState"/>.</exception>
    public static Action ReadState(this IStateful part, BinaryReader reader)
    {
        ArgumentNullException.ThrowIfNull(part);
        ArgumentNullException.ThrowIfNull(reader);
        var kind = part.StateKind;
        try
        {
            var (version, length) = ReadHeader(part, kind, reader);
            using var section = new SectionStream(reader.BaseStream, length);
            using var own = new BinaryReader(section, Encoding.UTF8, leaveOpen: true);
            var take = part.ReadState(own, version);
            if (section.Rest > 0) throw new InvalidDataException($"The state of {kind} is too long: {section.Rest} of its {length} bytes were not read.");
            return take;
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException($"The state of {kind} is cut short.", e);
        }
        catch (Exception e) when (e is FormatException or ArgumentException or OverflowException)
        {
            throw new InvalidDataException($"The state of {kind} is damaged: {e.Message}", e);
        }
    }

    private static void WriteHeader(IStateful part, BinaryWriter writer)
    {
        var kind = Utf8.GetBytes(part.StateKind);
        if (kind.Length is 0 or > MaxKindBytes || part.StateKind.Any(char.IsControl))
        {
            throw new InvalidOperationException(
                $"The state of a {part.GetType().Name} has a kind of {kind.Length} bytes; it must have from 1 to {MaxKindBytes}, and no control characters.");
        }

        if (part.StateVersion < 1) throw new InvalidOperationException($"The state of a {part.GetType().Name} has version {part.StateVersion}; the first one is 1.");
        writer.Write((ushort)kind.Length);
        writer.Write(kind);
        writer.Write(part.StateVersion);
    }

    private static void WriteMeasured(IStateful part, BinaryWriter writer)
    {
        var length = Measure(part, Stream.Null);
        writer.Write(length);
        writer.Flush();
        if (Measure(part, writer.BaseStream) is var written && written != length)
        {
            throw new InvalidOperationException($"A {part.GetType().Name} wrote a state of {length} bytes, and of {written} when asked again.");
        }
    }

    /// <summary>Writes what only the part understands.</summary>
    /// <returns>The number of bytes.</returns>
    private static long Measure(IStateful part, Stream target)
    {
        using var counting = new CountingStream(target);
        using var writer = new BinaryWriter(counting);
        part.WriteState(writer);
        writer.Flush();
        return counting.Length;
    }

    /// <returns>The version, and the number of bytes that follow.</returns>
    private static (int Version, long Length) ReadHeader(IStateful part, string kind, BinaryReader reader)
    {
        var found = ReadKind(reader) ?? throw new InvalidDataException($"This is not the state of {kind}, nor of anything else.");
        if (found != kind) throw new InvalidDataException($"This is the state of {found}, and not of {kind}.");
        var version = reader.ReadInt32();
        if (version > part.StateVersion)
        {
            throw new InvalidDataException(
                $"The state of {kind} has version {version}, which is newer than version {part.StateVersion}, the last one that can be read; a later release of the part saved it.");
        }

        if (version < 1) throw new InvalidDataException($"The state of {kind} is damaged: its version is {version}, and the first one is 1.");
        var length = reader.ReadInt64();
        if (length < 0) throw new InvalidDataException($"The state of {kind} is damaged: its length is {length}.");
        if (BytesLeft(reader.BaseStream) is { } left && left < length)
        {
            throw new InvalidDataException($"The state of {kind} is cut short: it has {length} bytes, of which {left} are there.");
        }

        return (version, length);
    }

    /// <returns>Null where there is no kind, but other data.</returns>
    private static string? ReadKind(BinaryReader reader)
    {
        var length = reader.ReadUInt16();
        if (length is 0 or > MaxKindBytes) return null;
        var bytes = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            reader.ReadExactly(bytes.AsSpan(0, length));
            var kind = Utf8.GetString(bytes, 0, length);
            return kind.Any(char.IsControl) ? null : kind;
        }
        catch (DecoderFallbackException)
        {
            return null;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }

    /// <returns>Null where the stream doesn't tell.</returns>
    private static long? BytesLeft(Stream stream) => stream switch
    {
        SectionStream section => section.Rest,
        { CanSeek: true } => stream.Length - stream.Position,
        _ => null,
    };
}
