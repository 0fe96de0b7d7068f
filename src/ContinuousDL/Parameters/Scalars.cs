using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>Single elements of tensors as raw bits, zero-extended to 64, and what can be computed on them.</summary>
internal static unsafe class Scalars
{
    /// <summary>The size of an element in bytes.</summary>
    /// <exception cref="NotSupportedException">The dtype takes more than 8 bytes, or is not known.</exception>
    public static int SizeOf(ScalarType dtype) => IsKnown(dtype, out var size)
        ? size : throw new NotSupportedException($"Tensors of dtype {dtype} cannot be deployed: their elements take more than 8 bytes, or their size is not known.");

    /// <summary>Whether the size of a dtype's elements is known, and not above 8 bytes.</summary>
    public static bool IsKnown(ScalarType dtype) => IsKnown(dtype, out _);

    /// <summary>Whether elements of this dtype can be trained: real floating-point numbers.</summary>
    public static bool IsTrainable(ScalarType dtype) =>
        dtype is ScalarType.Float32 or ScalarType.Float64 or ScalarType.BFloat16 or ScalarType.Float16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Load(byte* address, int size) => size switch
    {
        4 => *(uint*)address,
        8 => *(ulong*)address,
        2 => *(ushort*)address,
        _ => *address,
    };

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
    public static ulong Add(ScalarType dtype, ulong bits, float addend, out float applied)
    {
        switch (dtype)
        {
            case ScalarType.Float32:
            {
                var old = BitConverter.UInt32BitsToSingle((uint)bits);
                var sum = old + addend;
                applied = sum - old;
                return BitConverter.SingleToUInt32Bits(sum);
            }

            case ScalarType.Float64:
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
    public static double ToDouble(ScalarType dtype, ulong bits) => dtype switch
    {
        ScalarType.Float32 or ScalarType.ComplexFloat32 => BitConverter.UInt32BitsToSingle((uint)bits),
        ScalarType.Float64 => BitConverter.UInt64BitsToDouble(bits),
        ScalarType.BFloat16 => BitConverter.UInt32BitsToSingle((uint)bits << 16),
        ScalarType.Float16 => (double)BitConverter.UInt16BitsToHalf((ushort)bits),
        ScalarType.Int8 => (sbyte)bits,
        ScalarType.Int16 => (short)bits,
        ScalarType.Int32 => (int)bits,
        ScalarType.Int64 => (long)bits,
        _ => bits,
    };

    private static ulong FromFloat(ScalarType dtype, float value) => dtype switch
    {
        ScalarType.BFloat16 => ToBFloat16(value),
        ScalarType.Float16 => BitConverter.HalfToUInt16Bits((Half)value),
        _ => throw new NotSupportedException($"Elements of dtype {dtype} cannot be trained."),
    };

    /// <summary>Rounds to the nearest bfloat16, ties to even, as PyTorch does.</summary>
    public static ushort ToBFloat16(float value)
    {
        if (float.IsNaN(value)) return 0x7fc0;
        var bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }

    private static bool IsKnown(ScalarType dtype, out int size)
    {
        size = dtype switch
        {
            ScalarType.Byte or ScalarType.Int8 or ScalarType.Bool => 1,
            ScalarType.Int16 or ScalarType.Float16 or ScalarType.BFloat16 => 2,
            ScalarType.Int32 or ScalarType.Float32 => 4,
            ScalarType.Int64 or ScalarType.Float64 or ScalarType.ComplexFloat32 => 8,
            _ => 0,
        };
        return size > 0;
    }
}
