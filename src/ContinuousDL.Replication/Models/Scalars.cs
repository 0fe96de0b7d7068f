using System.Runtime.CompilerServices;

namespace ContinuousDL.Replication.Models;

/// <summary>Single elements of tensors as raw bits, zero-extended to 64, and what can be computed on them.</summary>
public static unsafe class Scalars
{
    /// <summary>The size of an element in bytes.</summary>
    /// <exception cref="NotSupportedException">The dtype takes more than 8 bytes, or is not known.</exception>
    public static int SizeOf(DType dtype) => IsKnown(dtype, out var size)
        ? size : throw new NotSupportedException($"Tensors of dtype {dtype} cannot be deployed: their elements take more than 8 bytes, or their size is not known.");

    /// <summary>Whether the size of a dtype's elements is known, and not above 8 bytes.</summary>
    public static bool IsKnown(DType dtype) => IsKnown(dtype, out _);

    /// <summary>Whether elements of this dtype can be trained: real floating-point numbers.</summary>
    public static bool IsTrainable(DType dtype) =>
        dtype is DType.Float32 or DType.Float64 or DType.BFloat16 or DType.Float16;

    /// <summary>Reads the element at an address.</summary>
    /// <param name="address">Where it is.</param>
    /// <param name="size">Its size in bytes: 1, 2, 4 or 8.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Load(byte* address, int size) => size switch
    {
        4 => *(uint*)address,
        8 => *(ulong*)address,
        2 => *(ushort*)address,
        _ => *address,
    };

    /// <summary>Writes the element at an address.</summary>
    /// <param name="address">Where it is to be.</param>
    /// <param name="size">Its size in bytes: 1, 2, 4 or 8.</param>
    /// <param name="bits">Its bits.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* address, int size, ulong bits)
    {
        switch (size)
        {
            case 4: *(uint*)address = (uint)bits; break;
            case 8: *(ulong*)address = bits; break;
            case 2: *(ushort*)address = (ushort)bits; break;
            default: *address = (byte)bits; break;
        }
    }

    /// <summary>Reads the element at an index out of packed elements.</summary>
    public static ulong Load(ReadOnlySpan<byte> elements, int index, int size)
    {
        fixed (byte* address = elements.Slice((int)((long)index * size), size)) return Load(address, size);
    }

    /// <summary>Writes the element at an index into packed elements.</summary>
    public static void Store(Span<byte> elements, int index, int size, ulong bits)
    {
        fixed (byte* address = elements.Slice((int)((long)index * size), size)) Store(address, size, bits);
    }

    /// <summary>Adds to an element, rounds to its dtype, and says what was really added.</summary>
    public static ulong Add(DType dtype, ulong bits, float addend, out float applied)
    {
        switch (dtype)
        {
            case DType.Float32:
            {
                var old = BitConverter.UInt32BitsToSingle((uint)bits);
                var sum = old + addend;
                applied = sum - old;
                return BitConverter.SingleToUInt32Bits(sum);
            }

            case DType.Float64:
            {
                var old = BitConverter.UInt64BitsToDouble(bits);
                var sum = old + addend;
                applied = (float)(sum - old);
                return BitConverter.DoubleToUInt64Bits(sum);
            }

            default:
            {
                var old = (float)ToDouble(dtype, bits);
                var rounded = FromFloat(dtype, old + addend);
                applied = (float)ToDouble(dtype, rounded) - old;
                return rounded;
            }
        }
    }

    /// <summary>The value of an element; integers and booleans as numbers, a complex number's real part.</summary>
    public static double ToDouble(DType dtype, ulong bits) => dtype switch
    {
        DType.Float32 or DType.ComplexFloat32 => BitConverter.UInt32BitsToSingle((uint)bits),
        DType.Float64 => BitConverter.UInt64BitsToDouble(bits),
        DType.BFloat16 => BitConverter.UInt32BitsToSingle((uint)bits << 16),
        DType.Float16 => (double)BitConverter.UInt16BitsToHalf((ushort)bits),
        DType.Int8 => (sbyte)bits,
        DType.Int16 => (short)bits,
        DType.Int32 => (int)bits,
        DType.Int64 => (long)bits,
        _ => bits,
    };

    private static ulong FromFloat(DType dtype, float value) => dtype switch
    {
        DType.BFloat16 => ToBFloat16(value),
        DType.Float16 => BitConverter.HalfToUInt16Bits((Half)value),
        _ => throw new NotSupportedException($"Elements of dtype {dtype} cannot be trained."),
    };

    /// <summary>Rounds to the nearest bfloat16, ties to even, as PyTorch does.</summary>
    public static ushort ToBFloat16(float value)
    {
        if (float.IsNaN(value)) return 0x7fc0;
        var bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }

    private static bool IsKnown(DType dtype, out int size)
    {
        size = dtype switch
        {
            DType.Byte or DType.Int8 or DType.Bool => 1,
            DType.Int16 or DType.Float16 or DType.BFloat16 => 2,
            DType.Int32 or DType.Float32 => 4,
            DType.Int64 or DType.Float64 or DType.ComplexFloat32 => 8,
            _ => 0,
        };
        return size > 0;
    }
}
