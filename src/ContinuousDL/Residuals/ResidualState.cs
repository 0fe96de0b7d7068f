using System.IO.Hashing;
using System.Runtime.InteropServices;
using System.Text;
using ContinuousDL.Memory;

namespace ContinuousDL.Residuals;

/// <summary>
/// How a residual memory is saved: one byte of length and so many of ASCII that say in words what memory it is (kind, options,
/// number of coordinates), the vectors as little-endian floats, and the XXH3 checksum (64 bits) of all that.
/// </summary>
internal static class ResidualState
{
    /// <summary>The coordinates that are written or read at a time: a span of bytes can't hold all that a span of floats can.</summary>
    private const int Chunk = 1 << 20;

    public static void Save(BinaryWriter writer, string description, params ReadOnlySpan<ResidualVector> vectors)
    {
        ArgumentNullException.ThrowIfNull(writer);
        var hash = new XxHash3();
        var words = Encoding.ASCII.GetBytes(description);
        writer.Write(checked((byte)words.Length));
        Write(writer, words, hash);
        foreach (var vector in vectors)
        {
            for (var rest = vector.Span; !rest.IsEmpty; rest = rest[Math.Min(Chunk, rest.Length)..])
            {
                Write(writer, MemoryMarshal.AsBytes(rest[..Math.Min(Chunk, rest.Length)]), hash);
            }
        }

        writer.Write(hash.GetCurrentHashAsUInt64());
    }

    /// <summary>Reads what <see cref="Save"/> wrote. The vectors are as before if it throws.</summary>
    /// <exception cref="InvalidDataException">It is the state of another memory, cut short or damaged.</exception>
    public static void Load(BinaryReader reader, string description, params ReadOnlySpan<ResidualVector> vectors)
    {
        ArgumentNullException.ThrowIfNull(reader);
        var read = new NativeBuffer<float>[vectors.Length];
        try
        {
            var hash = new XxHash3();
            var words = new byte[reader.ReadByte()];
            Read(reader, words, hash);
            var found = Encoding.ASCII.GetString(words);
            if (found != description)
            {
                var readable = found.All(c => !char.IsControl(c)) ? $"\"{found}\"" : "something else";
                throw new InvalidDataException($"This is the state of {readable}, and the memory is \"{description}\".");
            }

            for (var v = 0; v < read.Length; v++) read[v] = ReadVector(reader, vectors[v].Length, hash);
            if (reader.ReadUInt64() != hash.GetCurrentHashAsUInt64())
            {
                throw new InvalidDataException("The state of the residual memory is damaged: its checksum is wrong.");
            }

            for (var v = 0; v < read.Length; v++) read[v].Span.CopyTo(vectors[v].Span);
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException("The state of the residual memory is cut short.", e);
        }
        finally
        {
            foreach (var buffer in read) buffer?.Dispose();
        }
    }

    private static NativeBuffer<float> ReadVector(BinaryReader reader, int length, XxHash3 hash)
    {
        var buffer = new NativeBuffer<float>(length);
        try
        {
            for (var rest = buffer.Span; !rest.IsEmpty; rest = rest[Math.Min(Chunk, rest.Length)..])
            {
                Read(reader, MemoryMarshal.AsBytes(rest[..Math.Min(Chunk, rest.Length)]), hash);
            }
        }
        catch
        {
            buffer.Dispose();
            throw;
        }

        return buffer;
    }

    private static void Write(BinaryWriter writer, ReadOnlySpan<byte> bytes, XxHash3 hash)
    {
        writer.Write(bytes);
        hash.Append(bytes);
    }

    private static void Read(BinaryReader reader, Span<byte> bytes, XxHash3 hash)
    {
        reader.ReadExactly(bytes);
        hash.Append(bytes);
    }
}
