using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ContinuousDL.Wire;

/// <summary>Reads bits, the most significant first. Beyond the end there are zeros; who reads checks once, afterwards, whether it went too far.</summary>
internal ref struct BitReader(ReadOnlySpan<byte> bytes)
{
    private readonly ReadOnlySpan<byte> bytes = bytes;
    private long position;

    /// <summary>How many bits have been read.</summary>
    public readonly long Position => position;

    /// <summary>The next bits, left-aligned: at least 57 of the 64 are valid.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly ulong Peek()
    {
        var start = position >> 3;
        var window = start <= bytes.Length - 8 ? ReadWord((int)start) : PeekAtEnd(start);
        return window << (int)(position & 7);
    }

    /// <summary>Goes on by so many bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Skip(int count) => position += count;

    /// <summary>Reads up to 57 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Read(int count)
    {
        if (count == 0) return 0;
        var value = Peek() >> (64 - count);
        position += count;
        return value;
    }

    /// <summary>Reads up to 64 bits.</summary>
    public ulong ReadLong(int count)
    {
        var high = count > 32 ? Read(count - 32) << 32 : 0;
        return high | Read(Math.Min(count, 32));
    }

    /// <summary>Goes on to the next whole byte.</summary>
    /// <returns>The number of bytes read so far.</returns>
    /// <exception cref="WireFormatException">There are fewer bytes, or the bits that fill the last one up are not 0.</exception>
    public int EndSection()
    {
        var padding = (int)(-position & 7);
        if (position > 8L * bytes.Length) throw new WireFormatException("The message ends in the middle of its coordinates or values.");
        if (Read(padding) != 0) throw new WireFormatException("The bits that fill up a section's last byte are not 0.");
        return (int)(position >> 3);
    }

    /// <summary>The 8 bytes from a place on, of which <see cref="Peek"/> has made sure that they are there.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly ulong ReadWord(int start)
    {
        var word = Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref MemoryMarshal.GetReference(bytes), start));
        return BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(word) : word;
    }

    private readonly ulong PeekAtEnd(long start)
    {
        var window = 0ul;
        for (var i = 0; i < 8 && start + i < bytes.Length; i++) window |= (ulong)bytes[(int)start + i] << (56 - (8 * i));
        return window;
    }
}
