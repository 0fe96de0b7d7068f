namespace ContinuousDL.Wire;

/// <summary>
/// What the changes of one group of tensors (same dtype, same kind) look like in one message: the sizes that separate classes of
/// them, and the prefix code of the classes.
/// </summary>
/// <remarks>
/// The sizes are c = float(base + f·2^q), counted in the bits of a float32, with f = 0, 1, 2, …, 24 and then 25, 27, 31, 39, …:
/// a few narrow classes right above the base, where a selection by size leaves most of them, then wider and wider ones.
/// </remarks>
internal sealed class ChangeModel
{
    /// <summary>The class of a change below the base; the one before it, 0, is that of a value that did not change.</summary>
    public const int BelowBase = 1;

    /// <summary>The first class above the base.</summary>
    public const int FirstStep = 2;

    /// <summary>The last class of changes: everything above its size.</summary>
    public const int LastStep = PrefixCode.Symbols - 2;

    /// <summary>The class of values that are written as they are.</summary>
    public const int Raw = PrefixCode.Symbols - 1;

    /// <summary>How many classes have the same width.</summary>
    public const int EvenSteps = 24;

    /// <summary>The bits of q.</summary>
    public const int ShiftBits = 5;

    /// <summary>The bits of a positive float32 without its sign.</summary>
    public const int MagnitudeBits = 31;

    /// <summary>The first bits that stand for no finite float32.</summary>
    private const uint Infinity = 0x7f800000;

    private readonly float[] sizes = new float[PrefixCode.Symbols];
    private readonly PrefixCode own = new();
    private uint baseBits;
    private int shift;

    /// <summary>The size at which each class from <see cref="FirstStep"/> on begins.</summary>
    public ReadOnlySpan<float> Sizes => sizes;

    /// <summary>The bits that the sizes take in a message.</summary>
    public int SizeBits => ShiftBits + MagnitudeBits - shift;

    /// <summary>The code of the classes.</summary>
    public PrefixCode Code { get; private set; } = PrefixCode.Fixed;

    /// <summary>Sets the sizes that separate the classes.</summary>
    /// <param name="smallest">The bits of the smallest one; rounded down to a multiple of 2^<paramref name="width"/>.</param>
    /// <param name="width">q.</param>
    public void SetSizes(uint smallest, int width)
    {
        (baseBits, shift) = (smallest >> width << width, width);
        for (var symbol = FirstStep; symbol <= LastStep; symbol++)
        {
            var step = symbol - FirstStep;
            var factor = step <= EvenSteps ? step : EvenSteps - 1 + (1L << (step - EvenSteps));
            sizes[symbol] = BitConverter.UInt32BitsToSingle((uint)Math.Min(Infinity, baseBits + (factor << shift)));
        }
    }

    /// <summary>The class that a change of some size falls into, about: rounding may put it one further.</summary>
    public int Guess(float distance)
    {
        var bits = BitConverter.SingleToInt32Bits(distance);
        var above = (long)bits - baseBits;
        if (above < 0) return BelowBase;
        var factor = above >> shift;
        if (factor < EvenSteps) return FirstStep + (int)factor;
        return (int)Math.Min(LastStep, FirstStep + EvenSteps + long.Log2(factor - EvenSteps + 1));
    }

    /// <summary>Takes the code that the format fixes.</summary>
    public void UseFixedCode() => Code = PrefixCode.Fixed;

    /// <summary>Takes a code made for counted symbols.</summary>
    public void FitCode(ReadOnlySpan<int> counts)
    {
        own.Fit(counts);
        Code = own;
    }

    /// <summary>Writes what the sizes follow from.</summary>
    public void WriteSizes(ref BitWriter writer)
    {
        writer.Reserve(8);
        writer.Write((uint)shift, ShiftBits);
        writer.Write(baseBits >> shift, MagnitudeBits - shift);
    }

    /// <summary>Reads and takes over what <see cref="WriteSizes"/> wrote.</summary>
    public void ReadSizes(ref BitReader reader)
    {
        var width = (int)reader.Read(ShiftBits);
        SetSizes((uint)(reader.Read(MagnitudeBits - width) << width), width);
    }

    /// <summary>Writes which code it has.</summary>
    public void WriteCode(ref BitWriter writer)
    {
        writer.Reserve(1 + PrefixCode.Symbols);
        writer.Write(ReferenceEquals(Code, own) ? 1u : 0, 1);
        if (!ReferenceEquals(Code, own)) return;
        foreach (var length in own.Lengths) writer.Write(length, PrefixCode.LengthBits);
    }

    /// <summary>Reads and takes over what <see cref="WriteCode"/> wrote.</summary>
    /// <exception cref="WireFormatException">The lengths are not those of a prefix code.</exception>
    public void ReadCode(ref BitReader reader)
    {
        Code = PrefixCode.Fixed;
        if (reader.Read(1) == 0) return;
        Span<byte> lengths = stackalloc byte[PrefixCode.Symbols];
        foreach (ref var length in lengths) length = (byte)reader.Read(PrefixCode.LengthBits);
        if (!own.TrySet(lengths)) throw new WireFormatException("The lengths of a prefix code are not those of one.");
        Code = own;
    }
}
