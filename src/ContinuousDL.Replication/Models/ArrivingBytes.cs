namespace ContinuousDL.Replication.Models;

/// <summary>
/// Bytes of which there are said to be so many. Unless that is known for sure, memory is taken as they arrive, so that nobody can
/// make a reader take much by a number alone.
/// </summary>
internal sealed class ArrivingBytes
{
    private const int FirstAllocation = 1 << 16;

    /// <summary>How many times what has arrived is taken next. Large, since every step copies; the last one an eighth.</summary>
    private const int Growth = 8;

    private readonly int length;
    private byte[] bytes;

    /// <summary>Expects bytes.</summary>
    /// <param name="length">How many there are said to be.</param>
    /// <param name="isCertain">Whether there are as many for sure.</param>
    public ArrivingBytes(int length, bool isCertain)
    {
        this.length = length;
        bytes = GC.AllocateUninitializedArray<byte>(isCertain ? length : Math.Min(length, FirstAllocation));
    }

    /// <summary>How many have arrived.</summary>
    public int Count { get; private set; }

    /// <summary>Whether all have arrived.</summary>
    public bool IsComplete => Count == length;

    /// <summary>Where the next ones go; empty when all have arrived.</summary>
    public Memory<byte> Next
    {
        get
        {
            if (Count == bytes.Length && Count < length) Array.Resize(ref bytes, (int)Math.Min(length, (long)Growth * Count));
            return bytes.AsMemory(Count);
        }
    }

    /// <summary>Says that some have been written to <see cref="Next"/>.</summary>
    public void Advance(int count) => Count += count;

    /// <summary>All of them, when they have arrived.</summary>
    public byte[] ToArray() => bytes;
}
