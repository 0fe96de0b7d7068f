using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Wire;

/// <content>
/// The arithmetic of sixteen float32 elements at once, where the processor has AVX-512. What it can't do, one of a rare kind among
/// them, is done one by one; the messages are the same.
/// </content>
internal sealed partial class FloatCode<TFormat>
{
    /// <summary>Whether sixteen values are worked on at once.</summary>
    private static bool HasVectors => TFormat.HasVectors && Vector512.IsHardwareAccelerated && Avx512CD.IsSupported;

    /// <summary>As <c>Classify</c>, for sixteen float32 elements at once.</summary>
    /// <returns>False where one of them is of a rare kind: unchanged, not finite, or far from the class that its size makes likely.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryClassify(ChangeDistribution model, ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, int j, Span<byte> classes, Span<ulong> numbers, Span<ulong> widths)
    {
        var a = LoadVector(old, j);
        var stored = LoadVector(values, j);
        var start = FloatOrder<TFormat>.Order(TFormat.Round(a));
        var target = FloatOrder<TFormat>.Order(TFormat.Round(stored));
        var exponent = Vector512.Create(ChangeSize.ExponentMask);
        var rare = Vector512.Equals(a & exponent, exponent) | Vector512.Equals(stored & exponent, exponent) | Vector512.Equals(start, target);
        if (rare != Vector512<uint>.Zero) return false;

        // As for one value: a change that does not shrink, by changing signs where needed.
        var isNegative = Vector512.LessThan(target, start);
        var signs = isNegative & Vector512.Create((uint)TFormat.Sign);
        var all = isNegative & Vector512.Create((uint)FloatOrder<TFormat>.Mask);
        (a, stored, start, target) = (a ^ signs, stored ^ signs, (start ^ all) + Vector512<uint>.One, target ^ all);
        var symbols = model.Guess((stored.AsSingle() - a.AsSingle()).AsUInt32());
        FindBounds(symbols, model.Sizes, a, start, out var lower, out var upper);
        var isBelow = Vector512.LessThan(target, lower);
        var isAbove = Vector512.LessThanOrEqual(upper, target);
        if ((isBelow | isAbove) != Vector512<uint>.Zero)
        {
            symbols += isBelow - isAbove;
            FindBounds(symbols, model.Sizes, a, start, out lower, out upper);
            if ((Vector512.LessThan(target, lower) | Vector512.LessThanOrEqual(upper, target)) != Vector512<uint>.Zero) return false;
        }

        Avx512F.ConvertToVector128Byte(symbols | (isNegative & Vector512.Create(1u << ClassBits.SignShift))).CopyTo(classes[j..]);
        Widen(target - lower, numbers[j..]);
        Widen(upper - lower, widths[j..]);
        return true;
    }

    /// <summary>As <c>FindBounds</c>, for sixteen float32 elements at once.</summary>
    /// <returns>False where one of them is of a rare kind: unchanged, as it is, not finite, or of no value.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryFindBounds(ReadOnlySpan<float> sizes, ReadOnlySpan<byte> old, ReadOnlySpan<byte> classes, int j, Span<ulong> orders, Span<ulong> widths)
    {
        var packed = Avx512F.ConvertToVector512UInt32(Vector128.Create(classes[j..]));
        var symbols = packed & Vector512.Create((uint)ClassBits.SymbolMask);
        var a = LoadVector(old, j) ^ (packed >>> ClassBits.SignShift << 31);
        FindBounds(symbols, sizes, a, FloatOrder<TFormat>.Order(TFormat.Round(a)) + Vector512<uint>.One, out var lower, out var upper);
        var exponent = Vector512.Create(ChangeSize.ExponentMask);
        var rare = Vector512.Equals(symbols, Vector512.Create((uint)ChangeDistribution.Unchanged)) | Vector512.Equals(symbols, Vector512.Create((uint)ChangeDistribution.Raw))
            | Vector512.Equals(a & exponent, exponent) | Vector512.LessThanOrEqual(upper, lower);
        if (rare != Vector512<uint>.Zero) return false;
        Widen(lower, orders[j..]);
        Widen(upper - lower, widths[j..]);
        return true;
    }

    /// <summary>Where classes begin and end; but for the class of what did not change, which begins one earlier.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void FindBounds(Vector512<uint> symbols, ReadOnlySpan<float> sizes, Vector512<uint> a, Vector512<uint> next, out Vector512<uint> lower, out Vector512<uint> upper)
    {
        lower = Vector512.Max(next, FloatOrder<TFormat>.Order(TFormat.Round((a.AsSingle() + SizesOf(symbols, sizes)).AsUInt32())));
        upper = Vector512.Max(next, FloatOrder<TFormat>.Order(TFormat.Round((a.AsSingle() + SizesOf(symbols + Vector512<uint>.One, sizes)).AsUInt32())));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> LoadVector(ReadOnlySpan<byte> values, int j) => Vector512.Create(MemoryMarshal.Cast<byte, uint>(values)[j..]);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Widen(Vector512<uint> numbers, Span<ulong> result)
    {
        var (few, more) = Vector512.Widen(numbers);
        few.CopyTo(result);
        more.CopyTo(result[Vector512<ulong>.Count..]);
    }

    /// <summary>The sizes at which classes begin.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> SizesOf(Vector512<uint> symbols, ReadOnlySpan<float> sizes)
    {
        var count = Vector512<float>.Count;
        var low = Vector512.Shuffle(Vector512.Create(sizes), (symbols & Vector512.Create(15u)).AsInt32());
        var middle = Vector512.Shuffle(Vector512.Create(sizes[count..]), (symbols & Vector512.Create(15u)).AsInt32());
        var high = Vector512.Shuffle(Vector512.Create(sizes[(ChangeDistribution.Raw + 1 - count)..]), (symbols - Vector512.Create((uint)(ChangeDistribution.Raw + 1 - count))).AsInt32());
        var upper = Vector512.ConditionalSelect(Vector512.GreaterThanOrEqual(symbols, Vector512.Create(2u * (uint)count)).AsSingle(), high, middle);
        return Vector512.ConditionalSelect(Vector512.LessThan(symbols, Vector512.Create((uint)count)).AsSingle(), low, upper);
    }

    /// <summary>As <see cref="StoreValue"/>, for sixteen float32 elements at once.</summary>
    /// <returns>False where one of them is a value as it is.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryStoreValues(ReadOnlySpan<ulong> orders, ReadOnlySpan<byte> classes, Span<byte> values, int j)
    {
        var packed = Avx512F.ConvertToVector512UInt32(Vector128.Create(classes[j..]));
        if (Vector512.EqualsAny(packed & Vector512.Create((uint)ClassBits.SymbolMask), Vector512.Create((uint)ChangeDistribution.Raw))) return false;
        var order = Vector512.Narrow(Vector512.Create(orders[j..]), Vector512.Create(orders[(j + Vector512<ulong>.Count)..]));
        var signBit = Vector512.Create((uint)FloatOrder<TFormat>.SignBit);
        var isNegative = Vector512.LessThan(order, signBit);
        var code = order ^ (signBit | (Vector512.Create((uint)FloatOrder<TFormat>.Mask) & isNegative)) ^ (packed >>> ClassBits.SignShift << (TFormat.Width - 1));
        TFormat.Widen(code).CopyTo(MemoryMarshal.Cast<byte, uint>(values)[j..]);
        return true;
    }
}
