using System.Runtime.InteropServices;

namespace ContinuousDL.Memory;

/// <summary>Writes and reads native buffers, in pieces, without a managed copy of the whole.</summary>
internal static class NativeBufferSerialization
{
    private const int PieceSize = 1 << 20;

    public static void Write<T>(BinaryWriter writer, NativeBuffer<T> buffer)
        where T : unmanaged
    {
        for (var rest = (ReadOnlySpan<T>)buffer.Span; rest.Length > 0;)
        {
            var piece = rest[..Math.Min(rest.Length, PieceSize)];
            writer.Write(MemoryMarshal.AsBytes(piece));
            rest = rest[piece.Length..];
        }
    }

    /// <exception cref="EndOfStreamException">There is less than that to read.</exception>
    public static NativeBuffer<T> Read<T>(BinaryReader reader, int length)
        where T : unmanaged
    {
        var buffer = new NativeBuffer<T>(length);
        try
        {
            for (var rest = buffer.Span; rest.Length > 0;)
            {
                var piece = rest[..Math.Min(rest.Length, PieceSize)];
                reader.ReadExactly(MemoryMarshal.AsBytes(piece));
                rest = rest[piece.Length..];
            }

            return buffer;
        }
        catch
        {
            buffer.Dispose();
            throw;
        }
    }
}
