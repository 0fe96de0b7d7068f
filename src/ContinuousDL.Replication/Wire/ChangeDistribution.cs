using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace ContinuousDL.Replication.Wire;

/// <summary>
/// The distribution of the changes of one group of tensors (same dtype, same kind) in one message: the sizes that separate classes of
/// them, and the prefix code of the classes.
/// </summary>
/// <remarks>
/// The sizes are c = float(base + f·2^q), counted in the bits of a float32, with f = 0, 1, 2, …, 24 and then 25, 27, 31, 39, …:
/// a few narrow classes right above the base, where a selection by size leaves most of them, then wider and wider ones.
/// </remarks>
internal sealed class ChangeDistribution
{
    /// <summary>The class of a value that did not change.</summary>
    public const int Unchanged = 0;

    /// <summary>The class of a change below the base.</summary>
    public const int BelowBase = 1;

    /// <summary>The first class above the base.</summary>
    public const int FirstStep = 2;

    /// <summary>The last class of changes: everything above its size.</summary>
    public const int LastStep = PrefixCode.Symbols - 2;

    /// <summary>The class of values that are written as they are.</summary>
    public const int Raw = PrefixCode.Symbols - 1;

    /// <summary>How many classes have the same width.</summary>
    public const int EvenSteps = 24;

    /// <summary>How many changes a model can be fitted to: enough for its few numbers.</summary>
    public const int MostSamples = 512;

    /// <summary>The bits of q.</summary>
    public const int ShiftBits = 5;

    /// <summary>The bits of a positive float32 without its sign.</summary>
    public const int MagnitudeBits = 31;

    /// <summary>The first bits that stand for no finite float32.</summary>
    private const uint Infinity = ChangeSize.ExponentMask;

    /// <summary>c · log₂ c.</summary>
    private static readonly double[] Entropies = [0, .. Enumerable.Range(1, MostSamples).Select(c => c * Math.Log2(c))];

    private readonly float[] sizes = new float[PrefixCode.Symbols];
    private readonly PrefixCode own = new();
    private uint baseBits;
    private int shift;

    /// <summary>The size at which each class begins: 0 below the base, infinity at the end.</summary>
    public ReadOnlySpan<float> Sizes => sizes;

    /// <summary>The code of the classes.</summary>
    public PrefixCode Code { get; private set; } = PrefixCode.Fixed;

    /// <summary>Sets the sizes that separate the classes.</summary>
    /// <param name="smallest">The bits of the smallest one; rounded down to a multiple of 2^<paramref name="width"/>.</param>
    /// <param name="width">q.</param>
    public void SetSizes(uint smallest, int width)
    {
        (baseBits, shift) = (smallest >> width << width, width);
        sizes[Raw] = float.PositiveInfinity;
        for (var symbol = FirstStep; symbol <= LastStep; symbol++)
        {
            sizes[symbol] = BitConverter.UInt32BitsToSingle((uint)Math.Min(Infinity, baseBits + (FactorOf(symbol - FirstStep) << shift)));
        }
    }

    /// <summary>The class that a change of some size falls into, about: rounding may put it one further.</summary>
    public int Guess(float distance) => ClassOf(BitConverter.SingleToUInt32Bits(distance), baseBits, shift);

    /// <summary>The same for the bits of sixteen sizes, where the processor counts leading zeros of many at once (<see cref="Avx512CD"/>).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<uint> Guess(Vector512<uint> distances)
    {
        var start = Vector512.Create(baseBits);
        var factor = (distances - start) >>> shift;
        var even = Vector512.Min(factor, Vector512.Create((uint)EvenSteps));
        var doublings = Vector512.Create(31u) - Avx512CD.LeadingZeroCount(factor - even + Vector512<uint>.One);
        var symbols = Vector512.Min(Vector512.Create((uint)FirstStep) + even + doublings, Vector512.Create((uint)LastStep));
        return Vector512.ConditionalSelect(Vector512.LessThan(distances, start), Vector512.Create((uint)BelowBase), symbols);
    }

    /// <summary>About the bits that changes take, the model's own included, with the better of the two codes.</summary>
    /// <param name="samples">Some of the changes, at most <see cref="MostSamples"/>.</param>
    /// <param name="weight">How many changes each of them stands for.</param>
    /// <param name="smallest">The bits of the smallest size that separates classes.</param>
    /// <param name="width">q.</param>
    /// <param name="counts">Receives how many of the samples are in each class.</param>
    /// <param name="isFixed">Whether the better code is the one that the format fixes.</param>
    public static double Cost(ReadOnlySpan<ChangeSize> samples, double weight, uint smallest, int width, Span<int> counts, out bool isFixed)
    {
        var start = smallest >> width << width;
        Span<int> widths = stackalloc int[PrefixCode.Symbols];
        for (var symbol = BelowBase; symbol <= LastStep; symbol++) widths[symbol] = WidthBits(symbol, start, width);
        counts.Clear();
        var numbers = 0L;
        foreach (var (size, step) in samples)
        {
            var symbol = ClassOf(size, start, width);
            counts[symbol]++;
            numbers += Math.Max(0, widths[symbol] - step);
        }

        var withFixed = 0L;
        var withFitted = Entropies[samples.Length] + (samples.Length * PrefixCode.Redundancy);
        for (var symbol = BelowBase; symbol <= LastStep; symbol++)
        {
            if (counts[symbol] == 0) continue;
            withFixed += (long)counts[symbol] * PrefixCode.Fixed.Lengths[symbol];
            withFitted -= Entropies[counts[symbol]];
        }

        var (whenFixed, whenFitted) = (weight * withFixed, (weight * withFitted) + (PrefixCode.LengthBits * PrefixCode.Symbols));
        isFixed = whenFixed <= whenFitted;
        return (weight * numbers) + Math.Min(whenFixed, whenFitted) + ShiftBits + MagnitudeBits - width;
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

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ClassOf(uint size, uint start, int width)
    {
        if (size < start) return BelowBase;
        var factor = (size - start) >> width;
        if (factor < EvenSteps) return FirstStep + (int)factor;
        return Math.Min(LastStep, FirstStep + EvenSteps + BitOperations.Log2(factor - EvenSteps + 1));
    }

    /// <summary>About the logarithm of a class's width.</summary>
    private static int WidthBits(int symbol, uint start, int width)
    {
        if (symbol == BelowBase) return ChangeSize.Log2(start);
        var step = symbol - FirstStep;
        var bits = width + Math.Max(0, step - EvenSteps);
        var middle = start + (FactorOf(step) << width) + (1L << bits >> 1);
        return bits + ChangeSize.Log2((uint)Math.Min(Infinity, middle)) - ChangeSize.MantissaBits;
    }

    /// <summary>f: 0, 1, 2, …, 24, 25, 27, 31, 39, …</summary>
    private static long FactorOf(int step) => step <= EvenSteps ? step : EvenSteps - 1 + (1L << (step - EvenSteps));
}
