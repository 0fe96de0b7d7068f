using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace ContinuousDL.Replication.Wire;

/// <summary>
/// How the values of a floating-point tensor are coded. Its elements (stored bits) may hold only values of a shorter format:
/// the code of a value is its bits in that one.
/// </summary>
internal interface IFloatFormat
{
    /// <summary>The size of an element in bytes.</summary>
    static abstract int Size { get; }

    /// <summary>The bits of a code.</summary>
    static abstract int Width { get; }

    /// <summary>The exponent's bits in a code: all of them are set where it is infinite or not a number.</summary>
    static abstract ulong Exponent { get; }

    /// <summary>The code of a stored value that has one.</summary>
    static abstract ulong Narrow(ulong stored);

    /// <summary>The stored value of a code.</summary>
    static abstract ulong Widen(ulong code);

    /// <summary>Whether a stored value is neither infinite nor not a number.</summary>
    static abstract bool IsFinite(ulong stored);

    /// <summary>The sign's bit in a stored value.</summary>
    static abstract ulong Sign { get; }

    /// <summary>The code of a finite stored value, rounded to nearest, ties to even.</summary>
    static abstract ulong Round(ulong stored);

    /// <summary>The code of a finite stored value plus a step, rounded to nearest, ties to even.</summary>
    static abstract ulong Add(ulong stored, float step);

    /// <summary>Whether there are <see cref="Round(Vector512{uint})"/> and <see cref="Widen(Vector512{uint})"/>: elements are float32.</summary>
    static virtual bool HasVectors => false;

    /// <summary>The codes of finite stored values, rounded to nearest, ties to even.</summary>
    static virtual Vector512<uint> Round(Vector512<uint> stored) => throw new NotSupportedException();

    /// <summary>The stored values of codes.</summary>
    static virtual Vector512<uint> Widen(Vector512<uint> codes) => throw new NotSupportedException();

    /// <summary>How far a code's value is above a stored one; rounded.</summary>
    static abstract float Distance(ulong stored, ulong code);

    /// <summary>Half the distance from a code's value to the next larger one, about.</summary>
    static abstract float HalfStep(ulong code);

    /// <summary>The same for the value 1, and so in parts of the power of two that a value is above.</summary>
    static abstract float HalfStepOfOne { get; }
}

/// <summary>The same for float32 elements with values of a shorter format.</summary>
internal interface IRoundedFormat : IFloatFormat
{
    /// <summary>Whether a stored value has a code.</summary>
    static abstract bool Has(uint stored);
}

/// <summary>float32.</summary>
internal readonly struct Float32Format : IFloatFormat
{
    public static int Size => 4;

    public static int Width => 32;

    public static ulong Exponent => 0x7f800000;

    public static ulong Narrow(ulong stored) => stored;

    public static ulong Widen(ulong code) => code;

    public static bool IsFinite(ulong stored) => ((uint)stored & 0x7f800000) != 0x7f800000;

    public static ulong Sign => 0x80000000;

    public static ulong Round(ulong stored) => stored;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Add(ulong stored, float step) => BitConverter.SingleToUInt32Bits(ToSingle(stored) + step);

    public static bool HasVectors => true;

    public static Vector512<uint> Round(Vector512<uint> stored) => stored;

    public static Vector512<uint> Widen(Vector512<uint> codes) => codes;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Distance(ulong stored, ulong code) => ToSingle(code) - ToSingle(stored);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float HalfStep(ulong code) => ToSingle(code & Exponent) * HalfStepOfOne;

    public static float HalfStepOfOne => 1f / (1 << 24);

    private static float ToSingle(ulong bits) => BitConverter.UInt32BitsToSingle((uint)bits);
}

/// <summary>float64.</summary>
internal readonly struct Float64Format : IFloatFormat
{
    public static int Size => 8;

    public static int Width => 64;

    public static ulong Exponent => 0x7ff0000000000000;

    public static ulong Narrow(ulong stored) => stored;

    public static ulong Widen(ulong code) => code;

    public static bool IsFinite(ulong stored) => (stored & Exponent) != Exponent;

    public static ulong Sign => 0x8000000000000000;

    public static ulong Round(ulong stored) => stored;

    public static ulong Add(ulong stored, float step) => BitConverter.DoubleToUInt64Bits(BitConverter.UInt64BitsToDouble(stored) + step);

    public static float Distance(ulong stored, ulong code) => (float)(BitConverter.UInt64BitsToDouble(code) - BitConverter.UInt64BitsToDouble(stored));

    public static float HalfStep(ulong code) => (float)(BitConverter.UInt64BitsToDouble(code & Exponent) * HalfStepOfOne);

    public static float HalfStepOfOne => 1f / (1L << 53);
}

/// <summary>bfloat16.</summary>
internal readonly struct BFloat16Format : IFloatFormat
{
    public static int Size => 2;

    public static int Width => 16;

    public static ulong Exponent => 0x7f80;

    public static ulong Narrow(ulong stored) => stored;

    public static ulong Widen(ulong code) => code;

    public static bool IsFinite(ulong stored) => (stored & 0x7f80) != 0x7f80;

    public static ulong Sign => 0x8000;

    public static ulong Round(ulong stored) => stored;

    public static ulong Add(ulong stored, float step) => BFloat16InFloat32Format.Add(stored << 16, step);

    public static float Distance(ulong stored, ulong code) => BFloat16InFloat32Format.Distance(stored << 16, code);

    public static float HalfStep(ulong code) => BFloat16InFloat32Format.HalfStep(code);

    public static float HalfStepOfOne => BFloat16InFloat32Format.HalfStepOfOne;
}

/// <summary>float16.</summary>
internal readonly struct Float16Format : IFloatFormat
{
    public static int Size => 2;

    public static int Width => 16;

    public static ulong Exponent => 0x7c00;

    public static ulong Narrow(ulong stored) => stored;

    public static ulong Widen(ulong code) => code;

    public static bool IsFinite(ulong stored) => (stored & 0x7c00) != 0x7c00;

    public static ulong Sign => 0x8000;

    public static ulong Round(ulong stored) => stored;

    public static ulong Add(ulong stored, float step) => BitConverter.HalfToUInt16Bits((Half)(ToSingle(stored) + step));

    public static float Distance(ulong stored, ulong code) => ToSingle(code) - ToSingle(stored);

    public static float HalfStep(ulong code) => ToSingle(code & Exponent) * HalfStepOfOne;

    public static float HalfStepOfOne => 1f / (1 << 11);

    private static float ToSingle(ulong bits) => (float)BitConverter.UInt16BitsToHalf((ushort)bits);
}

/// <summary>float32 elements with new values that are bfloat16 numbers. The old ones may be any.</summary>
internal readonly struct BFloat16InFloat32Format : IRoundedFormat
{
    public static bool Has(uint stored) => (stored & 0xffff) == 0;

    public static int Size => 4;

    public static int Width => 16;

    public static ulong Exponent => 0x7f80;

    public static ulong Narrow(ulong stored) => stored >> 16;

    public static ulong Widen(ulong code) => code << 16;

    public static bool IsFinite(ulong stored) => Float32Format.IsFinite(stored);

    public static ulong Sign => 0x80000000;

    /// <remarks>NaN, which this would make infinite, is not finite, and so never asked for; a finite sum is a number.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Round(ulong stored) => ((uint)stored + 0x7fffu + (((uint)stored >> 16) & 1)) >> 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Add(ulong stored, float step) => Round(Float32Format.Add(stored, step));

    public static bool HasVectors => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Round(Vector512<uint> stored) =>
        (stored + Vector512.Create(0x7fffu) + ((stored >>> 16) & Vector512<uint>.One)) >>> 16;

    public static Vector512<uint> Widen(Vector512<uint> codes) => codes << 16;

    public static float Distance(ulong stored, ulong code) => Float32Format.Distance(stored, code << 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float HalfStep(ulong code) => BitConverter.UInt32BitsToSingle((uint)(code & Exponent) << 16) * HalfStepOfOne;

    public static float HalfStepOfOne => 1f / (1 << 8);
}

/// <summary>float32 elements with new values that are float16 numbers. The old ones may be any.</summary>
internal readonly struct Float16InFloat32Format : IRoundedFormat
{
    /// <remarks>NaN has none, since conversions may change its bits.</remarks>
    public static bool Has(uint stored)
    {
        var value = BitConverter.UInt32BitsToSingle(stored);
        return !float.IsNaN(value) && Widen(Narrow(stored)) == stored;
    }

    public static int Size => 4;

    public static int Width => 16;

    public static ulong Exponent => 0x7c00;

    public static ulong Narrow(ulong stored) => BitConverter.HalfToUInt16Bits((Half)BitConverter.UInt32BitsToSingle((uint)stored));

    public static ulong Widen(ulong code) => BitConverter.SingleToUInt32Bits((float)BitConverter.UInt16BitsToHalf((ushort)code));

    public static bool IsFinite(ulong stored) => Float32Format.IsFinite(stored);

    public static ulong Sign => 0x80000000;

    public static ulong Round(ulong stored) => Narrow(stored);

    public static ulong Add(ulong stored, float step) => Narrow(Float32Format.Add(stored, step));

    public static float Distance(ulong stored, ulong code) => (float)BitConverter.UInt16BitsToHalf((ushort)code) - BitConverter.UInt32BitsToSingle((uint)stored);

    public static float HalfStep(ulong code) => Float16Format.HalfStep(code);

    public static float HalfStepOfOne => Float16Format.HalfStepOfOne;
}
