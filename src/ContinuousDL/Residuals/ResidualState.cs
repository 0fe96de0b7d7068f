using System.IO.Hashing;
using System.Runtime.InteropServices;
using ContinuousDL.Memory;

namespace ContinuousDL.Residuals;

/// <summary>
/// The vectors of a residual memory as a saved state: little-endian floats, and the XXH3 checksum (64 bits) of them. A float that was
/// damaged is a float like any other, so that nothing else could tell, wherever the state was kept.
/// </summary>
internal static class ResidualState
{
    /// <summary>The coordinates that are written or read at a time: a span of bytes can't hold all that a span of floats can.</summary>
    private const int Chunk = 1 << 20;

    public static void Write(BinaryWriter writer, params ReadOnlySpan<ResidualVector> vectors)
    {
        var hash = new XxHash3();
        foreach (var vector in vectors)
        {
            for (var rest = vector.Span; !rest.IsEmpty; rest = rest[Math.Min(Chunk, rest.Length)..])
            {
                var bytes = MemoryMarshal.AsBytes(rest[..Math.Min(Chunk, rest.Length)]);
                writer.Write(bytes);
                hash.Append(bytes);
            }
        }

        writer.Write(hash.GetCurrentHashAsUInt64());
    }

    /// <summary>Reads what <see cref="Write"/> wrote.</summary>
    /// <returns>An action that copies it to the vectors.</returns>
    /// <exception cref="InvalidDataException">It is damaged.</exception>
    /// <exception cref="EndOfStreamException">It is cut short.</exception>
    public static Action Read(BinaryReader reader, params ResidualVector[] vectors)
    {
        var read = new NativeBuffer<float>?[vectors.Length];
        try
        {
            var hash = new XxHash3();
            for (var v = 0; v < read.Length; v++)
            {
                read[v] = new NativeBuffer<float>(vectors[v].Length);
                ReadTo(read[v]!.Span, reader, hash);
            }

            if (reader.ReadUInt64() != hash.GetCurrentHashAsUInt64())
            {
                throw new InvalidDataException("The state of the residual memory is damaged: its checksum is wrong.");
            }
        }
        catch
        {
            foreach (var buffer in read) buffer?.Dispose();
            throw;
        }

        return () =>
        {
            for (var v = 0; v < read.Length; v++)
            {
                read[v]!.Span.CopyTo(vectors[v].Span);
                read[v]!.Dispose();
            }
        };
    }

    private static void ReadTo(Span<float> values, BinaryReader reader, XxHash3 hash)
    {
        for (var rest = values; !rest.IsEmpty; rest = rest[Math.Min(Chunk, rest.Length)..])
        {
            var bytes = MemoryMarshal.AsBytes(rest[..Math.Min(Chunk, rest.Length)]);
            reader.ReadExactly(bytes);
            hash.Append(bytes);
        }
    }
}
