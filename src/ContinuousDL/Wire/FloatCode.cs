using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ContinuousDL.Deployment;

namespace ContinuousDL.Wire;

/// <summary>
/// The code of floating-point values: the sign of the change, the class of its size, and which of the values is meant that lie
/// within the class. Sizes are sizes of numbers, not of bit patterns, so that what selected the changes shows in them; and each
/// sum is rounded to the format before values are counted, so that nothing is lost and hardly a bit is wasted.
/// </summary>
/// <remarks>
/// With the old value a, a class stands for the values from round(a + c) to below round(a + c'), c and c' being the sizes where
/// it and the next one begin. They are numbered; the number is written in truncated binary. What shrinks is the same with the
/// signs of both values changed. Without an old value, a is 0. Rounding is IEEE 754's, so every implementation counts alike.
/// </remarks>
internal sealed class FloatCode<TFormat> : ValueCode
    where TFormat : struct, IFloatFormat
{
    /// <summary>The most bytes that one value can take: sign, class and number.</summary>
    private const int LargestCode = (1 + PrefixCode.LongestCode + 64 + 7) / 8;

    private const int Chunk = 1024;

    /// <summary>The changes that a model is fitted to: enough for its few numbers.</summary>
    private const int MostSamples = 512;

    /// <summary>A base that leaves one change in so many below it, where the smallest ones are far from the others.</summary>
    private const int OneBelowBase = 32;

    private static ulong SignBit => 1ul << (TFormat.Width - 1);

    private static ulong Mask => ulong.MaxValue >> (64 - TFormat.Width);

    /// <inheritdoc />
    public override void WriteModel(ChangeModel model, ModelUpdate.Sections sections, ChangeGroup group, ref BitWriter writer)
    {
        Span<Change> samples = stackalloc Change[MostSamples];
        Span<uint> sizes = stackalloc uint[MostSamples];
        var taken = 0;
        var smallest = float.MaxValue;
        var count = group.Count(sections);
        var stride = ((count - 1) / MostSamples) + 1;
        var skip = 0;
        do
        {
            if (!group.Has(sections.Entry)) continue;
            var old = group.Old(sections);
            var values = sections.Values;
            var length = CountOf(old, values);
            smallest = Math.Min(smallest, SmallestSize(old, values));
            for (; skip < length; skip += stride)
            {
                if (!TryOrient(old, values, skip, out var change) || change.Target == change.Start) continue;
                (samples[taken], sizes[taken]) = (change, BitConverter.SingleToUInt32Bits(change.LargestSize));
                taken++;
            }

            skip -= length;
        }
        while (sections.MoveNext());

        sizes = sizes[..taken];
        sizes.Sort();
        Fit(model, samples[..taken], sizes, BitConverter.SingleToUInt32Bits(smallest), stride);
        model.WriteSizes(ref writer);
        model.WriteCode(ref writer);
    }

    /// <inheritdoc />
    public override void ReadModel(ChangeModel model, ref BitReader reader)
    {
        model.ReadSizes(ref reader);
        model.ReadCode(ref reader);
    }

    /// <inheritdoc />
    public override void Encode(ChangeModel model, ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, ref BitWriter output)
    {
        var writer = output;
        var sizes = model.Sizes;
        var lengths = model.Code.Lengths;
        var codes = model.Code.Codes;
        var count = CountOf(old, values);
        for (var j = 0; j < count; j++)
        {
            if (j % Chunk == 0) writer.Reserve(Chunk * LargestCode);
            if (!TryOrient(old, values, j, out var change))
            {
                writer.Write(codes[ChangeModel.Raw], 1 + lengths[ChangeModel.Raw]);
                writer.WriteLong(TFormat.Narrow(Load(values, j)), TFormat.Width);
                continue;
            }

            var symbol = Locate(model.Guess(change.Distance), sizes, change, out var lower, out var upper);
            var head = (change.Sign << lengths[symbol]) | codes[symbol];
            var length = 1 + lengths[symbol];
            var width = upper - lower;
            var bits = BitOperations.Log2(width);
            var shorter = (2ul << bits) - width;
            var number = change.Target - lower;

            // The numbers from here on take one bit more.
            var isLong = number >= shorter;
            if (TFormat.Width <= 32)
            {
                if (isLong)
                {
                    number += shorter;
                    bits++;
                }

                writer.Write((head << bits) | number, length + bits);
                continue;
            }

            // In parts, since it could be 65 bits.
            var excess = isLong ? number - shorter : 0;
            writer.Write(head, length);
            writer.WriteLong(number - excess + (excess >> 1), bits);
            writer.Write(excess & 1, isLong ? 1 : 0);
        }

        output = writer;
    }

    /// <inheritdoc />
    public override void Decode(ChangeModel model, ReadOnlySpan<byte> old, Span<byte> values, ref BitReader input)
    {
        var reader = input;
        var sizes = model.Sizes;
        var table = model.Code.Table;
        var count = CountOf(old, values);
        for (var j = 0; j < count; j++)
        {
            var window = reader.Peek();
            var entry = table[(int)(window << 1 >> (64 - PrefixCode.LongestCode))];
            var (symbol, length) = (entry >> 4, 1 + (entry & 15));
            if (length == 1) throw new WireFormatException("The values hold a code that stands for nothing.");
            if (symbol == ChangeModel.Raw)
            {
                reader.Skip(length);
                Store(values, j, TFormat.Widen(reader.ReadLong(TFormat.Width)));
                continue;
            }

            var a = old.IsEmpty ? 0 : Load(old, j);
            if (!TFormat.IsFinite(a)) throw new WireFormatException("A value that is not finite is said to change by a number.");
            var sign = window >> 63;
            a ^= TFormat.Sign & (0 - sign);
            var start = StartOf(a);
            var lower = Boundary(symbol, sizes, a, start);
            var upper = Boundary(symbol + 1, sizes, a, start);
            if (upper <= lower) throw new WireFormatException("The values hold a change that leads to no value.");
            var width = upper - lower;
            var number = 0ul;
            if (width > 1)
            {
                var bits = BitOperations.Log2(width);
                var shorter = (2ul << bits) - width;
                if (TFormat.Width > 32)
                {
                    reader.Skip(length);
                    number = reader.ReadLong(bits);
                    length = 0;
                    window = reader.Peek();
                }
                else
                {
                    // Sign, class and number are at most 1 + 12 + 32 bits: all of them have been peeked at.
                    number = window << length >> 1 >> (63 - bits);
                    length += bits;
                }

                if (number >= shorter)
                {
                    number += (number - shorter) + (window << length >> 63);
                    length++;
                }
            }

            reader.Skip(length);
            var code = FromOrder(lower + number);
            Store(values, j, TFormat.Widen(code ^ (SignBit & (0 - sign))));
        }

        input = reader;
    }

    /// <summary>Looks for the sizes and the code that sampled changes take the fewest bits with.</summary>
    /// <param name="model">The model to be fitted.</param>
    /// <param name="samples">The changes.</param>
    /// <param name="sizes">The bits of their sizes, ascending.</param>
    /// <param name="smallest">The bits of the smallest size of all changes.</param>
    /// <param name="weight">How many changes each sample stands for.</param>
    private static void Fit(ChangeModel model, ReadOnlySpan<Change> samples, ReadOnlySpan<uint> sizes, uint smallest, double weight)
    {
        Span<int> counts = stackalloc int[PrefixCode.Symbols];
        model.UseFixedCode();
        if (samples.IsEmpty)
        {
            model.SetSizes(0, ChangeModel.MagnitudeBits);
            return;
        }

        var best = (Cost: double.PositiveInfinity, Base: 0u, Shift: 0, IsFixed: true);
        foreach (var start in (ReadOnlySpan<uint>)[smallest, sizes[sizes.Length / OneBelowBase]])
        {
            var median = Math.Max(1, sizes[sizes.Length / 2] - Math.Min(start, sizes[sizes.Length / 2]));
            var worse = 0;
            for (var shift = Math.Min(ChangeModel.MagnitudeBits - 1, BitOperations.Log2(median) + 1); shift >= 0 && worse < 2; shift--)
            {
                model.SetSizes(start, shift);
                var cost = Cost(model, samples, counts, weight, out var isFixed);
                worse = cost < best.Cost ? 0 : worse + 1;
                if (worse == 0) best = (cost, start, shift, isFixed);
            }
        }

        model.SetSizes(best.Base, best.Shift);
        if (best.IsFixed) return;
        Cost(model, samples, counts, weight, out _);
        model.FitCode(counts);
    }

    /// <summary>The bits that all changes take, about, the model's own included.</summary>
    private static double Cost(ChangeModel model, ReadOnlySpan<Change> samples, Span<int> counts, double weight, out bool isFixed)
    {
        counts.Clear();
        var sizes = model.Sizes;
        var numbers = 0L;
        foreach (ref readonly var change in samples)
        {
            counts[Locate(model.Guess(change.Distance), sizes, change, out var lower, out var upper)]++;
            numbers += BitOperations.Log2(upper - lower);
        }

        var withFixed = 0.0;
        var withFitted = 0.0;
        for (var s = 0; s < counts.Length; s++)
        {
            withFixed += counts[s] * PrefixCode.Fixed.Lengths[s];
            if (counts[s] > 0) withFitted += counts[s] * (Math.Log2((double)samples.Length / counts[s]) + PrefixCode.Redundancy);
        }

        (withFixed, withFitted) = (weight * withFixed, (weight * withFitted) + (PrefixCode.LengthBits * PrefixCode.Symbols));
        isFixed = withFixed <= withFitted;
        return (weight * numbers) + Math.Min(withFixed, withFitted) + model.SizeBits;
    }

    /// <summary>The smallest of the largest sizes that lead to each of the new values; unchanged and infinite ones don't count.</summary>
    private static float SmallestSize(ReadOnlySpan<byte> old, ReadOnlySpan<byte> values)
    {
        var smallest = float.MaxValue;
        var count = CountOf(old, values);
        for (var j = 0; j < count; j++)
        {
            var code = TFormat.Narrow(Load(values, j));
            var distance = Math.Abs(TFormat.Distance(old.IsEmpty ? 0 : Load(old, j), code));
            var half = TFormat.HalfStep(code);

            // What is not a number is not above it.
            if (distance > half) smallest = Math.Min(smallest, distance + half);
        }

        return smallest;
    }

    /// <summary>Makes a value's change one that does not shrink, by changing signs where needed.</summary>
    /// <returns>False when a value is not finite.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryOrient(ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, int index, out Change change)
    {
        var a = old.IsEmpty ? 0 : Load(old, index);
        var code = TFormat.Narrow(Load(values, index));
        change = default;
        if ((code & TFormat.Exponent) == TFormat.Exponent || !TFormat.IsFinite(a)) return false;
        var start = StartOf(a);
        var target = Order(code);

        // Without branches, since signs can't be predicted.
        var sign = target < start ? 1ul : 0;
        var all = 0 - sign;
        change = new Change(a ^ (TFormat.Sign & all), code ^ (SignBit & all), start ^ (Mask & all), target ^ (Mask & all), sign);
        return true;
    }

    /// <summary>The class of a change, and the values that it stands for.</summary>
    /// <param name="guess">The class to begin the search at.</param>
    /// <param name="sizes">The sizes at which classes begin.</param>
    /// <param name="change">The change.</param>
    /// <param name="lower">The first value in its class.</param>
    /// <param name="upper">One past the last.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Locate(int guess, ReadOnlySpan<float> sizes, in Change change, out ulong lower, out ulong upper)
    {
        var symbol = guess;
        lower = Boundary(symbol, sizes, change.Old, change.Start);
        while (lower > change.Target) lower = Boundary(--symbol, sizes, change.Old, change.Start);
        upper = Boundary(symbol + 1, sizes, change.Old, change.Start);
        while (upper <= change.Target)
        {
            lower = upper;
            upper = Boundary(++symbol + 1, sizes, change.Old, change.Start);
        }

        return symbol;
    }

    /// <summary>A value's place among all values of the format, counted from the lowest: negative ones descend in their bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Order(ulong code) => code ^ (SignBit | (Mask & (0 - (code >> (TFormat.Width - 1)))));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong FromOrder(ulong order) => order ^ (SignBit | (Mask & ((order >> (TFormat.Width - 1)) - 1)));

    /// <summary>Where a stored value lies, rounded to the format. Adding −0 keeps the sign of a zero, which adding 0 would not.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong StartOf(ulong stored) => Order(TFormat.Add(stored, -0f));

    /// <summary>Where a class begins.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Boundary(int symbol, ReadOnlySpan<float> sizes, ulong old, ulong start)
    {
        if (symbol >= ChangeModel.FirstStep)
        {
            return symbol > ChangeModel.LastStep ? Order(TFormat.Exponent) : Math.Max(start + 1, Order(TFormat.Add(old, sizes[symbol])));
        }

        return start + (ulong)symbol;
    }

    /// <summary>An element, of which the caller knows that it is there.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Load(ReadOnlySpan<byte> values, int index)
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
    private static void Store(Span<byte> values, int index, ulong bits)
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
    private static int CountOf(ReadOnlySpan<byte> old, ReadOnlySpan<byte> values)
    {
        if (!old.IsEmpty && old.Length != values.Length) throw new ArgumentException($"There are {old.Length} bytes of old values for {values.Length} of new ones.", nameof(old));
        return values.Length / TFormat.Size;
    }

    /// <summary>A change that does not shrink.</summary>
    /// <param name="Old">The old value as it is stored.</param>
    /// <param name="Code">The new value's code.</param>
    /// <param name="Start">Where the old value lies, rounded to the format.</param>
    /// <param name="Target">Where the new value lies: not below <paramref name="Start"/>.</param>
    /// <param name="Sign">1 where the signs of both have been changed, otherwise 0.</param>
    private readonly record struct Change(ulong Old, ulong Code, ulong Start, ulong Target, ulong Sign)
    {
        /// <summary>The size of the change, rounded.</summary>
        public float Distance
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            get => TFormat.Distance(Old, Code);
        }

        /// <summary>About the largest size that still leads to the new value: what selected it by its size was not above that.</summary>
        public float LargestSize => Math.Clamp(Distance + TFormat.HalfStep(Code), 0, float.MaxValue);
    }
}
