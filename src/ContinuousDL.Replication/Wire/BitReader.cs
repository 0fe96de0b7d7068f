using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ContinuousDL.Replication.Wire;

/// <summary>Reads bits, the most significant first. Beyond the end there are zeros; who reads checks once, afterwards, whether it went too far.</summary>
/// <remarks>
/// The next bits are kept in a word, which is filled up from the bytes at a place that depends on the number of bits read, not on
/// the bits: so a processor loads ahead, and what one code's length has to wait for is the word alone (Giesen 2018, "Reading bits
/// in far too many ways", variant 4).
/// </remarks>
internal ref struct BitReader(ReadOnlySpan<byte> bytes)
{
    /// <summary>The most bits that can be seen at once.</summary>
    public const int MostBits = 56;

    private readonly ReadOnlySpan<byte> bytes = bytes;

    /// <summary>The next bits, left-aligned. Those beyond <see cref="available"/> are right, too, or 0.</summary>
    private ulong window;

    /// <summary>How many bits of the window count as taken from the bytes before <see cref="next"/>.</summary>
    private int available;

    private long next;

    /// <summary>How many bits have been read.</summary>
    public readonly long Position => (8 * next) - available;

    /// <summary>The next bits, left-aligned: at least <see cref="MostBits"/> of the 64 are valid.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Peek()
    {
        var word = next <= bytes.Length - 8 ? ReadWord(next) : ReadEnd(bytes, next);
        window |= word >> available;
        next += (63 - available) >> 3;
        available |= MostBits;
        return window;
    }

    /// <summary>Goes on by so many of the bits that were seen.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Skip(int count)
    {
        window <<= count;
        available -= count;
    }

    /// <summary>Reads up to <see cref="MostBits"/> bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Read(int count)
    {
        // In two steps, since a shift by 64 would be one by 0.
        var value = Peek() >> 1 >> (63 - count);
        Skip(count);
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
        var padding = (int)(-Position & 7);
        if (Position > 8L * bytes.Length) throw new WireFormatException("The message ends in the middle of its coordinates or values.");
        if (Read(padding) != 0) throw new WireFormatException("The bits that fill up a section's last byte are not 0.");
        return (int)(Position >> 3);
    }

    /// <summary>The 8 bytes from a place on, of which <see cref="Peek"/> has made sure that they are there.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly ulong ReadWord(long start)
    {
        var word = Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref MemoryMarshal.GetReference(bytes), (nint)start));
        return BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(word) : word;
    }

    /// <summary>The last bytes, as if zeros followed them. Static, so that a reader in a loop stays in registers.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static ulong ReadEnd(ReadOnlySpan<byte> bytes, long start)
    {
        var word = 0ul;
        for (var i = 0; i < 8 && start + i < bytes.Length; i++) word |= (ulong)bytes[(int)start + i] << (56 - (8 * i));
        return word;
    }
}
