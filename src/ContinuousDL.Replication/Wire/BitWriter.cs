using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace ContinuousDL.Replication.Wire;

/// <summary>Writes bits, the most significant first, into memory of the shared pool.</summary>
internal struct BitWriter(int capacity) : IDisposable
{
    /// <summary>How far a single write may reach beyond what <see cref="Reserve"/> made room for.</summary>
    private const int Slack = 8;

    private byte[] buffer = ArrayPool<byte>.Shared.Rent(Math.Max(capacity, 64) + Slack);
    private int length;
    private ulong pending;
    private int pendingBits;

    /// <summary>The bytes that have been written. Only right after <see cref="PadToByte"/>.</summary>
    public readonly ReadOnlySpan<byte> Written => buffer.AsSpan(0, length);

    /// <summary>Makes room for so many bytes.</summary>
    /// <exception cref="NotSupportedException">The message would be longer than an array can be.</exception>
    public void Reserve(int bytes)
    {
        var needed = (long)length + bytes + Slack;
        if (needed <= buffer.Length) return;
        if (needed > Array.MaxLength) throw new NotSupportedException($"A message can have {Array.MaxLength:N0} bytes; this one needs more. Deploy a snapshot instead.");
        var larger = ArrayPool<byte>.Shared.Rent((int)Math.Min(Array.MaxLength, Math.Max(needed, 2L * buffer.Length)));
        buffer.AsSpan(0, length).CopyTo(larger);
        ArrayPool<byte>.Shared.Return(buffer);
        buffer = larger;
    }

    /// <summary>Writes up to 56 bits. There must be room for them.</summary>
    /// <param name="value">The bits, right-aligned; the others are 0.</param>
    /// <param name="count">How many, 0 to 56.</param>
    /// <remarks>Stores every time, since whether a byte is full could not be predicted; fewer than 8 bits stay pending.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write(ulong value, int count)
    {
        // With nothing pending and nothing to write the shift by 64 is one by 0, of a value that is 0.
        pending |= value << (64 - pendingBits - count);
        pendingBits += count;
        BinaryPrimitives.WriteUInt64BigEndian(buffer.AsSpan(length), pending);
        var full = pendingBits >> 3;
        length += full;
        pending <<= full << 3;
        pendingBits &= 7;
    }

    /// <summary>Writes up to 64 bits. There must be room for them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void WriteLong(ulong value, int count)
    {
        if (count > 32)
        {
            Write(value >> 32, count - 32);
            (value, count) = ((uint)value, 32);
        }

        Write(value, count);
    }

    /// <summary>Writes a number of bytes, the least significant first.</summary>
    public void WriteLittleEndian(ulong value, int bytes)
    {
        Reserve(bytes);
        for (var i = 0; i < bytes; i++) Write((byte)(value >> (8 * i)), 8);
    }

    /// <summary>Writes a number in groups of 7 bits, the least significant first, each in a byte whose highest bit says whether more follow.</summary>
    public void WriteVariable(ulong value)
    {
        Reserve(10);
        for (; value >= 0x80; value >>= 7) Write((value & 0x7f) | 0x80, 8);
        Write(value, 8);
    }

    /// <summary>Writes whole bytes.</summary>
    public void WriteBytes(ReadOnlySpan<byte> bytes)
    {
        Reserve(bytes.Length);
        foreach (var b in bytes) Write(b, 8);
    }

    /// <summary>Fills the last byte up with zeros.</summary>
    public void PadToByte() => Write(0, -pendingBits & 7);

    /// <summary>Gives the memory back.</summary>
    public void Dispose()
    {
        if (buffer.Length > 0) ArrayPool<byte>.Shared.Return(buffer);
        buffer = [];
    }
}
