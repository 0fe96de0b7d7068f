using System.Numerics;
using System.Runtime.InteropServices;
using ContinuousDL.Replication.Models;
using static TorchSharp.torch;

namespace ContinuousDL.Memory;

/// <summary>Tells whether floating-point numbers are finite, by their bits: infinities and NaNs are those whose exponent is all ones.</summary>
internal static class Finiteness
{
    private const uint SingleExponent = 0x7f800000;
    private const ushort HalfExponent = 0x7c00, BFloat16Exponent = 0x7f80;
    private const ulong DoubleExponent = 0x7ff0000000000000;

    /// <summary>Whether all of some floats are finite.</summary>
    public static bool AllFinite(ReadOnlySpan<float> values) => NoneHasAll(MemoryMarshal.Cast<float, uint>(values), SingleExponent);

    /// <summary>Whether all elements of a tensor are finite, or a part of them.</summary>
    /// <param name="dtype">Their dtype, a trainable one.</param>
    /// <param name="elements">Their bits, packed.</param>
    public static bool AllFinite(DType dtype, ReadOnlySpan<byte> elements) => dtype switch
    {
        DType.Float32 => NoneHasAll(MemoryMarshal.Cast<byte, uint>(elements), SingleExponent),
        DType.Float64 => NoneHasAll(MemoryMarshal.Cast<byte, ulong>(elements), DoubleExponent),
        DType.Float16 => NoneHasAll(MemoryMarshal.Cast<byte, ushort>(elements), HalfExponent),
        DType.BFloat16 => NoneHasAll(MemoryMarshal.Cast<byte, ushort>(elements), BFloat16Exponent),
        _ => throw NotTrainable(dtype),
    };

    /// <summary>Whether an element is finite.</summary>
    /// <param name="dtype">Its dtype, a trainable one.</param>
    /// <param name="bits">Its bits, zero-extended.</param>
    public static bool IsFinite(DType dtype, ulong bits)
    {
        var exponent = dtype switch
        {
            DType.Float32 => SingleExponent,
            DType.Float64 => DoubleExponent,
            DType.Float16 => HalfExponent,
            DType.BFloat16 => BFloat16Exponent,
            _ => throw NotTrainable(dtype),
        };
        return (bits & exponent) != exponent;
    }

    private static bool NoneHasAll<T>(ReadOnlySpan<T> values, T exponent)
        where T : unmanaged, IBinaryInteger<T>
    {
        var i = 0;
        if (Vector.IsHardwareAccelerated)
        {
            var mask = Vector.Create(exponent);
            for (; i <= values.Length - Vector<T>.Count; i += Vector<T>.Count)
            {
                if (Vector.EqualsAny(new Vector<T>(values[i..]) & mask, mask)) return false;
            }
        }

        for (; i < values.Length; i++)
        {
            if ((values[i] & exponent) == exponent) return false;
        }

        return true;
    }

    private static NotSupportedException NotTrainable(DType dtype) => new($"Elements of dtype {dtype} cannot be trained.");
}
