using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace ContinuousDL.Replication.Wire;

/// <summary>The values of a format in their order, so that those that a class stands for can be counted; and packed elements.</summary>
internal static class FloatOrder<TFormat>
    where TFormat : struct, IFloatFormat
{
    /// <summary>The sign's bit in a code.</summary>
    public static ulong SignBit => 1ul << (TFormat.Width - 1);

    /// <summary>All bits of a code.</summary>
    public static ulong Mask => ulong.MaxValue >> (64 - TFormat.Width);

    /// <summary>A value's place among all values of the format, counted from the lowest: negative ones descend in their bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Order(ulong code) => TFormat.Width == 32
        ? (uint)code ^ ((uint)((int)code >> 31) | 0x80000000)
        : code ^ (SignBit | (Mask & (0 - (code >> (TFormat.Width - 1)))));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong FromOrder(ulong order) => TFormat.Width == 32
        ? (uint)order ^ (~(uint)((int)order >> 31) | 0x80000000)
        : order ^ (SignBit | (Mask & ((order >> (TFormat.Width - 1)) - 1)));

    /// <summary>Where a class begins.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Boundary(int symbol, ReadOnlySpan<float> sizes, ulong old, ulong start)
    {
        var boundary = Math.Max(start + 1, Order(TFormat.Add(old, sizes[symbol])));
        return symbol == ChangeDistribution.Unchanged ? start : boundary;
    }

    /// <summary>An element, of which the caller knows that it is there.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Load(ReadOnlySpan<byte> values, int index)
    {
        ref var element = ref Unsafe.Add(ref MemoryMarshal.GetReference(values), (nint)index * TFormat.Size);
        return TFormat.Size switch
        {
            4 => Unsafe.ReadUnaligned<uint>(ref element),
            8 => Unsafe.ReadUnaligned<ulong>(ref element),
            _ => Unsafe.ReadUnaligned<ushort>(ref element),
        };
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Span<byte> values, int index, ulong bits)
    {
        ref var element = ref Unsafe.Add(ref MemoryMarshal.GetReference(values), (nint)index * TFormat.Size);
        switch (TFormat.Size)
        {
            case 4: Unsafe.WriteUnaligned(ref element, (uint)bits); break;
            case 8: Unsafe.WriteUnaligned(ref element, bits); break;
            default: Unsafe.WriteUnaligned(ref element, (ushort)bits); break;
        }
    }

    /// <summary>The number of values. Where there are old ones, there are as many.</summary>
    public static int CountOf(ReadOnlySpan<byte> old, ReadOnlySpan<byte> values)
    {
        if (!old.IsEmpty && old.Length != values.Length) throw new ArgumentException($"There are {old.Length} bytes of old values for {values.Length} of new ones.", nameof(old));
        return values.Length / TFormat.Size;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Order(Vector512<uint> codes)
    {
        var negative = Vector512.GreaterThanOrEqual(codes, Vector512.Create((uint)SignBit));
        return codes ^ (Vector512.Create((uint)SignBit) | (Vector512.Create((uint)Mask) & negative));
    }
}
