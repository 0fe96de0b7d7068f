using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>
/// The code of floating-point values: the sign of the change, the class of its size, and which of the values is meant that lie
/// within the class. Sizes are sizes of numbers, not of bit patterns, so that what selected the changes shows in them; and each
/// sum is rounded to the format before values are counted, so that nothing is lost and hardly a bit is wasted.
/// </summary>
/// <remarks>
/// <para>
/// With the old value a, a class stands for the values from round(a + c) to below round(a + c'), c and c' being the sizes where
/// it and the next one begin. They are numbered; the number is written in truncated binary. What shrinks is the same with the
/// signs of both values changed. Without an old value, a is 0. Rounding is IEEE 754's, so every implementation counts alike.
/// </para>
/// <para>
/// A block of values has all its classes and signs first, then all its numbers. Where a class begins then follows from the class
/// before it alone; and how long a number is, from its class and its old value, not from what was read before. So a processor
/// works on many values at once.
/// </para>
/// </remarks>
internal sealed partial class FloatCode<TFormat> : ValueCode
    where TFormat : struct, IFloatFormat
{
    /// <summary>How many values have their classes and signs written together, before their numbers.</summary>
    private const int Block = 1024;

    /// <summary>A block of old values where there are none.</summary>
    private static readonly byte[] Zeros = new byte[Block * sizeof(ulong)];

    /// <inheritdoc />
    public override void WriteModel(ChangeDistribution model, ModelUpdate.Sections runs, ChangeGroup group, ref BitWriter writer)
    {
        FloatFit<TFormat>.Fit(model, runs, group);
        model.WriteSizes(ref writer);
        model.WriteCode(ref writer);
    }

    /// <inheritdoc />
    public override void ReadModel(ChangeDistribution model, ref BitReader reader)
    {
        model.ReadSizes(ref reader);
        model.ReadCode(ref reader);
    }

    /// <inheritdoc />
    [SkipLocalsInit]
    public override void Encode(ChangeDistribution model, ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, ref BitWriter writer)
    {
        Span<byte> classes = stackalloc byte[Block];
        Span<ulong> numbers = stackalloc ulong[Block];
        Span<ulong> widths = stackalloc ulong[Block];
        var count = FloatOrder<TFormat>.CountOf(old, values);
        for (var start = 0; start < count; start += Block)
        {
            var length = Math.Min(Block, count - start);
            var bytes = (start * TFormat.Size)..((start + length) * TFormat.Size);
            Classify(model, old.IsEmpty ? Zeros : old[bytes], values[bytes], classes, numbers, widths);
            ClassBits.Write(model.Code, classes[..length], ref writer);
            TruncatedBinary<TFormat>.Write(numbers[..length], widths, ref writer);
        }
    }

    /// <inheritdoc />
    [SkipLocalsInit]
    public override void Decode(ChangeDistribution model, ReadOnlySpan<byte> old, Span<byte> values, ref BitReader reader)
    {
        Span<byte> classes = stackalloc byte[Block];
        Span<ulong> orders = stackalloc ulong[Block];
        Span<ulong> widths = stackalloc ulong[Block];
        var count = FloatOrder<TFormat>.CountOf(old, values);
        for (var start = 0; start < count; start += Block)
        {
            var length = Math.Min(Block, count - start);
            var bytes = (start * TFormat.Size)..((start + length) * TFormat.Size);
            ClassBits.Read(model.Code.Table, classes[..length], ref reader);
            FindBounds(model.Sizes, old.IsEmpty ? Zeros : old[bytes], classes[..length], orders, widths);
            TruncatedBinary<TFormat>.Read(orders[..length], widths, ref reader);
            StoreValues(orders, classes, values[bytes]);
        }
    }

    /// <summary>Finds the class of each value, and its number among those of the class.</summary>
    /// <param name="model">The sizes at which classes begin.</param>
    /// <param name="old">The old values of a block, packed.</param>
    /// <param name="values">The new ones, packed.</param>
    /// <param name="classes">Receives the classes, with the signs in the highest bits.</param>
    /// <param name="numbers">Receives the numbers; the codes of values that are written as they are.</param>
    /// <param name="widths">Receives how many values are in each class: 2^W, modulo 2^64, for values that are written as they are.</param>
    private static void Classify(ChangeDistribution model, ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, Span<byte> classes, Span<ulong> numbers, Span<ulong> widths)
    {
        var count = values.Length / TFormat.Size;
        classes = classes[..count];
        numbers = numbers[..count];
        widths = widths[..count];
        var j = 0;
        if (HasVectors)
        {
            for (; j <= count - Vector512<uint>.Count; j += Vector512<uint>.Count)
            {
                if (TryClassify(model, old, values, j, classes, numbers, widths)) continue;
                for (var i = 0; i < Vector512<uint>.Count; i++) Classify(model, old, values, j + i, classes, numbers, widths);
            }
        }

        for (; j < count; j++) Classify(model, old, values, j, classes, numbers, widths);
    }

    /// <summary>As the other one, for one value.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Classify(ChangeDistribution model, ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, int j, Span<byte> classes, Span<ulong> numbers, Span<ulong> widths)
    {
        if (!FloatChange<TFormat>.TryOrient(old, values, j, out var change))
        {
            (classes[j], numbers[j], widths[j]) = (ChangeDistribution.Raw, TFormat.Narrow(FloatOrder<TFormat>.Load(values, j)), FloatOrder<TFormat>.Mask + 1);
            return;
        }

        var symbol = Locate(model.Guess(change.Distance), model.Sizes, change, out var lower, out var upper);
        classes[j] = (byte)(symbol | (int)(change.Sign << ClassBits.SignShift));
        numbers[j] = change.Target - lower;
        widths[j] = upper - lower;
    }

    /// <summary>Finds the first value and the number of values that each class stands for.</summary>
    /// <param name="sizes">The sizes at which classes begin.</param>
    /// <param name="old">The old values of a block, packed.</param>
    /// <param name="classes">The classes, with the signs in the highest bits.</param>
    /// <param name="orders">Receives the places of the first values; 0 where values are written as they are.</param>
    /// <param name="widths">Receives the numbers of values: 2^W, modulo 2^64, where they are written as they are.</param>
    /// <exception cref="WireFormatException">A class stands for none.</exception>
    private static void FindBounds(ReadOnlySpan<float> sizes, ReadOnlySpan<byte> old, ReadOnlySpan<byte> classes, Span<ulong> orders, Span<ulong> widths)
    {
        orders = orders[..classes.Length];
        widths = widths[..classes.Length];
        var j = 0;
        if (HasVectors)
        {
            for (; j <= classes.Length - Vector512<uint>.Count; j += Vector512<uint>.Count)
            {
                if (TryFindBounds(sizes, old, classes, j, orders, widths)) continue;
                for (var i = 0; i < Vector512<uint>.Count; i++) FindBounds(sizes, old, classes, j + i, orders, widths);
            }
        }

        for (; j < classes.Length; j++) FindBounds(sizes, old, classes, j, orders, widths);
    }

    /// <summary>As the other one, for one value.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void FindBounds(ReadOnlySpan<float> sizes, ReadOnlySpan<byte> old, ReadOnlySpan<byte> classes, int j, Span<ulong> orders, Span<ulong> widths)
    {
        var symbol = classes[j] & ClassBits.SymbolMask;
        var a = FloatOrder<TFormat>.Load(old, j) ^ (TFormat.Sign & (0 - ((ulong)classes[j] >> ClassBits.SignShift)));
        if (symbol == ChangeDistribution.Raw)
        {
            (orders[j], widths[j]) = (0, FloatOrder<TFormat>.Mask + 1);
            return;
        }

        if (!TFormat.IsFinite(a)) throw new WireFormatException("A value that is not finite is said to change by a number.");
        var start = FloatOrder<TFormat>.Order(TFormat.Round(a));
        var lower = FloatOrder<TFormat>.Boundary(symbol, sizes, a, start);
        var upper = FloatOrder<TFormat>.Boundary(symbol + 1, sizes, a, start);
        if (upper <= lower) throw new WireFormatException("The values hold a change that leads to no value.");
        (orders[j], widths[j]) = (lower, upper - lower);
    }

    private static void StoreValues(ReadOnlySpan<ulong> orders, ReadOnlySpan<byte> classes, Span<byte> values)
    {
        var count = values.Length / TFormat.Size;
        orders = orders[..count];
        classes = classes[..count];
        var j = 0;
        if (HasVectors)
        {
            for (; j <= count - Vector512<uint>.Count; j += Vector512<uint>.Count)
            {
                if (TryStoreValues(orders, classes, values, j)) continue;
                for (var i = 0; i < Vector512<uint>.Count; i++) StoreValue(orders, classes, values, j + i);
            }
        }

        for (; j < count; j++) StoreValue(orders, classes, values, j);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreValue(ReadOnlySpan<ulong> orders, ReadOnlySpan<byte> classes, Span<byte> values, int j)
    {
        var code = (classes[j] & ClassBits.SymbolMask) == ChangeDistribution.Raw ? orders[j] : FloatOrder<TFormat>.FromOrder(orders[j]) ^ (FloatOrder<TFormat>.SignBit & (0 - ((ulong)classes[j] >> ClassBits.SignShift)));
        FloatOrder<TFormat>.Store(values, j, TFormat.Widen(code));
    }

    /// <summary>The class of a change, and the values that it stands for.</summary>
    /// <param name="guess">The class to begin the search at.</param>
    /// <param name="sizes">The sizes at which classes begin.</param>
    /// <param name="change">The change.</param>
    /// <param name="lower">The first value in its class.</param>
    /// <param name="upper">One past the last.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Locate(int guess, ReadOnlySpan<float> sizes, in FloatChange<TFormat> change, out ulong lower, out ulong upper)
    {
        var symbol = guess;
        lower = FloatOrder<TFormat>.Boundary(symbol, sizes, change.Old, change.Start);
        while (lower > change.Target) lower = FloatOrder<TFormat>.Boundary(--symbol, sizes, change.Old, change.Start);
        upper = FloatOrder<TFormat>.Boundary(symbol + 1, sizes, change.Old, change.Start);
        while (upper <= change.Target)
        {
            lower = upper;
            upper = FloatOrder<TFormat>.Boundary(++symbol + 1, sizes, change.Old, change.Start);
        }

        return symbol;
    }
}
