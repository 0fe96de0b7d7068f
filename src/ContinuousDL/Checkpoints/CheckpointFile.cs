using System.Buffers;
using System.Buffers.Binary;
using System.IO.Hashing;
using System.Runtime.InteropServices;
using System.Text;
using ContinuousDL.Replication.Storage;
using ContinuousDL.State;

namespace ContinuousDL.Checkpoints;

/// <summary>
/// A checkpoint on disk, little-endian: 7 bytes that tell what it is and one of version; the length of the file (int64); the
/// number of sections (int32), and for each its name and length; their bytes, one after the other; and the XXH3 checksum (64
/// bits) of all that.
/// </summary>
/// <remarks>
/// Written under another name, flushed to disk, and renamed: at no moment is there less than a whole checkpoint under the name.
/// The parts of a trainer that write sections need no checksum of their own: none reads before the whole file's was right.
/// </remarks>
internal sealed class CheckpointFile : IDisposable
{
    private const byte Version = (byte)'3';
    private const int BufferBytes = 1 << 20;

    private readonly string path;
    private readonly FileStream file;
    private readonly Dictionary<string, (long Start, long Length)> sections = [];

    private CheckpointFile(string path, FileStream file) => (this.path, this.file) = (path, file);

    private static ReadOnlySpan<byte> Magic => "CDLCKPT"u8;

    /// <summary>Writes a checkpoint, in place of one that may be there.</summary>
    /// <param name="path">Where to.</param>
    /// <param name="state">The state to write.</param>
    /// <param name="cancellationToken">Stops writing. The file that was there stays.</param>
    /// <exception cref="IOException">It could not be written. The file that was there stays.</exception>
    public static void Write(string path, StateCopy state, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);

        // A save that the process did not survive has left as much as a checkpoint takes.
        var temporary = path + ".new";
        File.Delete(temporary);
        DurableFile.Write(path, stream => Write(stream, state, cancellationToken), bufferSize: 0, temporary, cancellationToken);
    }

    /// <summary>Opens a checkpoint and reads all of it once, to see whether it is whole.</summary>
    /// <exception cref="CheckpointException">It is no checkpoint, of another version, cut short, or damaged.</exception>
    /// <exception cref="FileNotFoundException">There is none.</exception>
    /// <exception cref="IOException">It could not be read.</exception>
    public static CheckpointFile Open(string path)
    {
        var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, BufferBytes);
        var checkpoint = new CheckpointFile(path, file);
        try
        {
            checkpoint.Check();
            checkpoint.ReadSections();
            return checkpoint;
        }
        catch (EndOfStreamException e)
        {
            file.Dispose();
            throw new CheckpointException($"The checkpoint '{path}' is cut short.", e);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Reads a section.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="load">Reads it, to its end.</param>
    /// <exception cref="CheckpointException">There is no such section, or it is not what is expected.</exception>
    public void Read(string name, Action<BinaryReader> load)
    {
        if (!sections.TryGetValue(name, out var section)) throw new CheckpointException($"The checkpoint '{path}' has no section '{name}'.");
        file.Position = section.Start;
        var stream = new SectionStream(file, section.Length);
        using var reader = new BinaryReader(stream, Encoding.UTF8, leaveOpen: true);
        try
        {
            load(reader);
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException or FormatException or ArgumentException or NotSupportedException or ExternalException)
        {
            throw new CheckpointException($"The {name} in the checkpoint '{path}' does not fit: {e.Message}", e);
        }

        if (stream.Rest > 0) throw new CheckpointException($"The {name} in the checkpoint '{path}' does not fit: {stream.Rest} bytes of it were not read.");
    }

    public void Dispose() => file.Dispose();

    private static void Write(Stream stream, StateCopy state, CancellationToken cancellationToken)
    {
        var hash = new XxHash3();
        var header = HeaderOf(state);
        hash.Append(header);
        stream.Write(header);
        for (var block = 0; !state.Block(block).IsEmpty; block++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            hash.Append(state.Block(block));
            stream.Write(state.Block(block));
        }

        Span<byte> checksum = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(checksum, hash.GetCurrentHashAsUInt64());
        stream.Write(checksum);
    }

    private static byte[] HeaderOf(StateCopy state)
    {
        using var header = new MemoryStream();
        using var writer = new BinaryWriter(header);
        writer.Write(Magic);
        writer.Write(Version);
        var lengthPosition = header.Position;
        writer.Write(0L);
        writer.Write(state.Sections.Count);
        foreach (var (name, length) in state.Sections)
        {
            writer.Write(name);
            writer.Write(length);
        }

        var bytes = header.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan((int)lengthPosition), bytes.Length + state.Length + sizeof(ulong));
        return bytes;
    }

    private void Check()
    {
        Span<byte> start = stackalloc byte[Magic.Length + 1 + sizeof(long)];
        if (file.ReadAtLeast(start, start.Length, throwOnEndOfStream: false) < start.Length || !start.StartsWith(Magic))
        {
            throw new CheckpointException($"'{path}' is no checkpoint.");
        }

        if (start[Magic.Length] != Version) throw OtherVersion(start[Magic.Length]);

        var length = BinaryPrimitives.ReadInt64LittleEndian(start[(Magic.Length + 1)..]);
        if (length != file.Length) throw new CheckpointException($"The checkpoint '{path}' has {file.Length} bytes and should have {length}: it is cut short or damaged.");
        if (ComputeChecksum(length - sizeof(ulong), out var stored) != stored)
        {
            throw new CheckpointException($"The checkpoint '{path}' is damaged: its checksum is wrong.");
        }
    }

    private CheckpointException OtherVersion(byte found)
    {
        var advice = found < Version ? "an older one: restore it with the release of the library that saved it" : "a newer one: restore it with a newer release of the library";
        return new CheckpointException($"The checkpoint '{path}' has version {(char)found} of the format, and this library reads {(char)Version}. That is {advice}.");
    }

    private ulong ComputeChecksum(long length, out ulong stored)
    {
        var hash = new XxHash3();
        var buffer = ArrayPool<byte>.Shared.Rent(BufferBytes);
        try
        {
            file.Position = 0;
            for (var rest = length; rest > 0;)
            {
                var part = buffer.AsSpan(0, (int)Math.Min(rest, BufferBytes));
                file.ReadExactly(part);
                hash.Append(part);
                rest -= part.Length;
            }

            file.ReadExactly(buffer.AsSpan(0, sizeof(ulong)));
            stored = BinaryPrimitives.ReadUInt64LittleEndian(buffer);
            return hash.GetCurrentHashAsUInt64();
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private void ReadSections()
    {
        file.Position = Magic.Length + 1 + sizeof(long);
        using var reader = new BinaryReader(file, Encoding.UTF8, leaveOpen: true);
        var lengths = new (string Name, long Length)[Math.Clamp(reader.ReadInt32(), 0, 1 << 10)];
        for (var i = 0; i < lengths.Length; i++) lengths[i] = (reader.ReadString(), reader.ReadInt64());
        var start = file.Position;
        foreach (var (name, length) in lengths)
        {
            sections[name] = (start, length);
            start += length;
        }
    }
}
