using ILGPU;
using ILGPU.Util;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>
/// How kernels read and write the elements of a tensor: as float32, which has every number of each of these formats.
/// </summary>
/// <remarks>
/// <para>
/// Conversions are made of integer arithmetic and of single float32 sums: the same on every device and on the CPU. Rounding is to
/// nearest, ties to even, as torch rounds; what is not a number stays so.
/// </para>
/// <para>Without branches, so that those of several elements can be under way at once.</para>
/// </remarks>
/// <typeparam name="T">What an element is stored as.</typeparam>
internal interface IElements<T>
    where T : unmanaged
{
    /// <summary>How many elements 128 bits hold: 4 or 8.</summary>
    static abstract int PerLoad { get; }

    /// <summary>An element's value.</summary>
    static abstract float Read(T element);

    /// <summary>The element that is nearest to a value.</summary>
    static abstract T Nearest(float value);

    /// <summary>Its value.</summary>
    static abstract float Round(float value);

    /// <summary>The values of the first four elements in 128 bits.</summary>
    static abstract Quad First(Words words);

    /// <summary>The values of the four after them, where there are eight.</summary>
    static abstract Quad Last(Words words);

    /// <summary>The elements that are nearest to four values or, where 128 bits hold so many, to eight.</summary>
    static abstract Words Nearest(Quad first, Quad last);
}

/// <summary>float32.</summary>
internal readonly struct Float32Elements : IElements<float>
{
    public static int PerLoad => 4;

    public static float Read(float element) => element;

    public static float Nearest(float value) => value;

    public static float Round(float value) => value;

    public static Quad First(Words words) => new()
    {
        A = Interop.IntAsFloat((uint)words.A),
        B = Interop.IntAsFloat((uint)words.B),
        C = Interop.IntAsFloat((uint)words.C),
        D = Interop.IntAsFloat((uint)words.D),
    };

    public static Quad Last(Words words) => default;

    public static Words Nearest(Quad first, Quad last) => new()
    {
        A = (int)Interop.FloatAsInt(first.A),
        B = (int)Interop.FloatAsInt(first.B),
        C = (int)Interop.FloatAsInt(first.C),
        D = (int)Interop.FloatAsInt(first.D),
    };
}

/// <summary>bfloat16: the upper half of a float32.</summary>
internal readonly struct BFloat16Elements : IElements<ushort>
{
    public static int PerLoad => 8;

    public static float Read(ushort element) => Interop.IntAsFloat((uint)element << 16);

    public static ushort Nearest(float value) => (ushort)(RoundedBits(value) >> 16);

    public static float Round(float value) => Interop.IntAsFloat(RoundedBits(value));

    public static Quad First(Words words) => Halves.Read<BFloat16Elements>(words.A, words.B);

    public static Quad Last(Words words) => Halves.Read<BFloat16Elements>(words.C, words.D);

    public static Words Nearest(Quad first, Quad last) => Halves.Nearest<BFloat16Elements>(first, last);

    private static uint RoundedBits(float value)
    {
        var bits = Interop.FloatAsInt(value);
        var rounded = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
        return Utilities.Select((bits & 0x7fffffff) > 0x7f800000, 0x7fc00000u, rounded);
    }
}

/// <summary>float16, subnormals included.</summary>
internal readonly struct Float16Elements : IElements<ushort>
{
    /// <summary>The difference of the exponents' biases, where float32 has its exponent.</summary>
    private const uint Bias = (127 - 15) << 23;

    /// <summary>Magnitudes of float32: infinity, the first that is infinite once rounded, and the least that is not subnormal.</summary>
    private const uint Infinity = 0x7f800000, Overflow = 0x477ff000, LeastNormal = 0x38800000;

    public static int PerLoad => 8;

    public static float Read(ushort element)
    {
        var shifted = (element & 0x7fffu) << 13;
        var normal = shifted + Bias;

        // The bits of a subnormal one are those of its distance from the least normal one.
        var subnormal = Interop.FloatAsInt(Interop.IntAsFloat(shifted | LeastNormal) - Interop.IntAsFloat(LeastNormal));
        var special = shifted | Utilities.Select(shifted > 0x7c00u << 13, Infinity | 0x400000, Infinity);
        var magnitude = Utilities.Select(shifted < 0x0400u << 13, subnormal, Utilities.Select(shifted >= 0x7c00u << 13, special, normal));
        return Interop.IntAsFloat(magnitude | ((element & 0x8000u) << 16));
    }

    public static ushort Nearest(float value)
    {
        var bits = Interop.FloatAsInt(value);
        var magnitude = bits & 0x7fffffff;
        var normal = (RoundedNormal(magnitude) - Bias) >> 13;

        // Next to 1/2, floats are as far apart as subnormals are: their sum is rounded to the same place.
        var subnormal = Interop.FloatAsInt(Interop.IntAsFloat(magnitude) + 0.5f) - 0x3f000000;
        var special = Utilities.Select(magnitude > Infinity, 0x7e00 | ((magnitude >> 13) & 0x3ff), 0x7c00u);
        var result = Utilities.Select(magnitude < LeastNormal, subnormal, Utilities.Select(magnitude >= Overflow, special, normal));
        return (ushort)(result | ((bits >> 16) & 0x8000));
    }

    public static float Round(float value)
    {
        var bits = Interop.FloatAsInt(value);
        var magnitude = bits & 0x7fffffff;
        var subnormal = Interop.FloatAsInt((Interop.IntAsFloat(magnitude) + 0.5f) - 0.5f);
        var special = Utilities.Select(magnitude > Infinity, magnitude, Infinity);
        var result = Utilities.Select(magnitude < LeastNormal, subnormal, Utilities.Select(magnitude >= Overflow, special, RoundedNormal(magnitude)));
        return Interop.IntAsFloat(result | (bits & 0x80000000));
    }

    public static Quad First(Words words) => Halves.Read<Float16Elements>(words.A, words.B);

    public static Quad Last(Words words) => Halves.Read<Float16Elements>(words.C, words.D);

    public static Words Nearest(Quad first, Quad last) => Halves.Nearest<Float16Elements>(first, last);

    private static uint RoundedNormal(uint magnitude) => (magnitude + 0xfff + ((magnitude >> 13) & 1)) & ~0x1fffu;
}

/// <summary>Elements of 16 bits, two to a word, the first in its lower half.</summary>
internal static class Halves
{
    /// <summary>The values of the four elements in two words.</summary>
    public static Quad Read<TElements>(int first, int second)
        where TElements : struct, IElements<ushort> => new()
        {
            A = TElements.Read((ushort)first),
            B = TElements.Read((ushort)((uint)first >> 16)),
            C = TElements.Read((ushort)second),
            D = TElements.Read((ushort)((uint)second >> 16)),
        };

    /// <summary>The elements that are nearest to eight values.</summary>
    public static Words Nearest<TElements>(Quad first, Quad last)
        where TElements : struct, IElements<ushort> => new()
        {
            A = Pair<TElements>(first.A, first.B),
            B = Pair<TElements>(first.C, first.D),
            C = Pair<TElements>(last.A, last.B),
            D = Pair<TElements>(last.C, last.D),
        };

    private static int Pair<TElements>(float lower, float upper)
        where TElements : struct, IElements<ushort> => TElements.Nearest(lower) | (TElements.Nearest(upper) << 16);
}
