namespace ContinuousDL.Replication.Models;

/// <summary>
/// All values of a tensor in main memory, in row-major order as raw bytes of its dtype: of any size, in as few parts as arrays
/// allow. Each part has whole elements.
/// </summary>
public sealed class TensorValues
{
    /// <summary>A multiple of every element's size.</summary>
    private const int Alignment = 64;

    private readonly byte[][] parts;
    private readonly int partLength;

    /// <summary>Takes over values that lie in one array.</summary>
    public TensorValues(byte[] values)
    {
        parts = [values];
        partLength = Math.Max(1, values.Length);
        Length = values.Length;
    }

    private TensorValues(long length, int partLength)
    {
        parts = new byte[Math.Max(1, (length + partLength - 1) / partLength)][];
        this.partLength = partLength;
        Length = length;
    }

    /// <summary>The most bytes that a part has. Less than what arrays allow in tests alone, which could not afford such tensors.</summary>
    public static int LargestPart
    {
        get;
        internal set => field = value > 0 && value % Alignment == 0 ? value : throw new ArgumentOutOfRangeException(nameof(value), value, $"It must be a multiple of {Alignment}.");
    } = Array.MaxLength / Alignment * Alignment;

    /// <summary>The size in bytes.</summary>
    public long Length { get; }

    /// <summary>The number of parts, one at least.</summary>
    public int PartCount => parts.Length;

    /// <summary>Memory for all values of a tensor, of undefined content.</summary>
    public static TensorValues Allocate(LayoutEntry entry)
    {
        var values = Describe(entry.SizeInBytes);
        for (var i = 0; i < values.parts.Length; i++) values.parts[i] = GC.AllocateUninitializedArray<byte>(values.LengthOf(i));
        return values;
    }

    /// <summary>Values of which the parts are still to come, see <see cref="SetPart"/>.</summary>
    public static TensorValues Describe(long length) => new(length, LargestPart);

    /// <summary>The size of a part in bytes.</summary>
    public int LengthOf(int part) => (int)Math.Min(partLength, Length - ((long)part * partLength));

    /// <summary>Takes over the values of a part.</summary>
    public void SetPart(int part, byte[] values) => parts[part] = values;

    /// <summary>The values of a part.</summary>
    public Memory<byte> Part(int part) => parts[part];

    /// <summary>The values from a place on, up to the end of the part that it lies in.</summary>
    /// <param name="offset">The place, in bytes; less than <see cref="Length"/>.</param>
    public Span<byte> From(long offset) => offset < partLength ? parts[0].AsSpan((int)offset)
        : parts[(int)(offset / partLength)].AsSpan((int)(offset % partLength));

    /// <summary>The element at an index, as raw bits.</summary>
    public ulong Load(int index, int size) => Scalars.Load(From((long)index * size), 0, size);

    /// <summary>Changes the element at an index.</summary>
    public void Store(int index, int size, ulong bits) => Scalars.Store(From((long)index * size), 0, size, bits);

    /// <summary>Copies values from a place on.</summary>
    /// <param name="offset">The place, in bytes.</param>
    /// <param name="destination">Receives as many bytes as it has room for; there must be as many.</param>
    public void CopyTo(long offset, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            var part = From(offset);
            part = part[..Math.Min(part.Length, destination.Length)];
            part.CopyTo(destination);
            destination = destination[part.Length..];
            offset += part.Length;
        }
    }

    /// <summary>Whether all values are the same bits.</summary>
    public bool SequenceEqual(TensorValues other)
    {
        if (Length != other.Length) return false;
        for (var offset = 0L; offset < Length;)
        {
            var mine = From(offset);
            var theirs = other.From(offset);
            var common = Math.Min(mine.Length, theirs.Length);
            if (!mine[..common].SequenceEqual(theirs[..common])) return false;
            offset += common;
        }

        return true;
    }

    /// <summary>The part of the state's digest that comes from these values.</summary>
    public ulong Digest(LayoutEntry entry)
    {
        var sum = 0ul;
        for (var offset = 0L; offset < Length;)
        {
            var part = From(offset);
            sum += StateDigest.Sum(entry, (int)(offset / entry.ElementSize), part);
            offset += part.Length;
        }

        return sum;
    }
}
