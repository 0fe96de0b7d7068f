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

    /// <summary>The most bytes that the sign and class of one value take.</summary>
    private const int LargestClass = (1 + PrefixCode.LongestCode + 7) / 8;

    /// <summary>The most bytes that one number takes.</summary>
    private const int LargestNumber = 64 / 8;

    /// <summary>How many classes and signs are in what a reader can see at once.</summary>
    private const int AtOnce = 4;

    /// <summary>How many last bits are in what a reader can see at once.</summary>
    private const int BitsAtOnce = BitReader.MostBits;

    /// <summary>Where the sign is in the byte of a class.</summary>
    private const int SignShift = 7;

    private const int SymbolMask = (1 << SignShift) - 1;

    /// <summary>How many changes a model is fitted to at least, if there are as many; otherwise it is one in <see cref="Sparseness"/>.</summary>
    private const int FewSamples = 256, Sparseness = 4;

    /// <summary>A base that leaves one change in so many below it, where the smallest ones are far from the others.</summary>
    private const int OneBelowBase = 32;

    /// <summary>A block of old values where there are none.</summary>
    private static readonly byte[] Zeros = new byte[Block * sizeof(ulong)];

    private static ulong SignBit => 1ul << (TFormat.Width - 1);

    private static ulong Mask => ulong.MaxValue >> (64 - TFormat.Width);

    /// <inheritdoc />
    public override void WriteModel(ChangeDistribution model, ModelUpdate.Sections runs, ChangeGroup group, ref BitWriter writer)
    {
        Span<ChangeSize> samples = stackalloc ChangeSize[ChangeDistribution.MostSamples];
        var taken = 0;
        var smallest = float.MaxValue;
        var count = group.Count(runs);
        var stride = ((count - 1) / Math.Clamp(count / Sparseness, FewSamples, ChangeDistribution.MostSamples)) + 1;
        var skip = 0;
        do
        {
            if (!group.Has(runs.Entry)) continue;
            var old = group.Old(runs);
            var values = runs.Values;
            var length = CountOf(old, values);
            smallest = Math.Min(smallest, SmallestSize(old, values));
            for (; skip < length; skip += stride)
            {
                if (TryOrient(old, values, skip, out var change) && change.Target != change.Start) samples[taken++] = change.Size;
            }

            skip -= length;
        }
        while (runs.MoveNext());

        Fit(model, samples[..taken], BitConverter.SingleToUInt32Bits(smallest), stride);
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
        var count = CountOf(old, values);
        for (var start = 0; start < count; start += Block)
        {
            var length = Math.Min(Block, count - start);
            var bytes = (start * TFormat.Size)..((start + length) * TFormat.Size);
            Classify(model, old.IsEmpty ? Zeros : old[bytes], values[bytes], classes, numbers, widths);
            WriteClasses(model.Code, classes[..length], ref writer);
            WriteNumbers(numbers[..length], widths, ref writer);
        }
    }

    /// <inheritdoc />
    [SkipLocalsInit]
    public override void Decode(ChangeDistribution model, ReadOnlySpan<byte> old, Span<byte> values, ref BitReader reader)
    {
        Span<byte> classes = stackalloc byte[Block];
        Span<ulong> orders = stackalloc ulong[Block];
        Span<ulong> widths = stackalloc ulong[Block];
        var count = CountOf(old, values);
        for (var start = 0; start < count; start += Block)
        {
            var length = Math.Min(Block, count - start);
            var bytes = (start * TFormat.Size)..((start + length) * TFormat.Size);
            ReadClasses(model.Code.Table, classes[..length], ref reader);
            FindBounds(model.Sizes, old.IsEmpty ? Zeros : old[bytes], classes[..length], orders, widths);
            ReadNumbers(orders[..length], widths, ref reader);
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
        if (!TryOrient(old, values, j, out var change))
        {
            (classes[j], numbers[j], widths[j]) = (ChangeDistribution.Raw, TFormat.Narrow(Load(values, j)), Mask + 1);
            return;
        }

        var symbol = Locate(model.Guess(change.Distance), model.Sizes, change, out var lower, out var upper);
        classes[j] = (byte)(symbol | (int)(change.Sign << SignShift));
        numbers[j] = change.Target - lower;
        widths[j] = upper - lower;
    }

    /// <summary>Writes classes and signs, several at once.</summary>
    private static void WriteClasses(PrefixCode code, scoped ReadOnlySpan<byte> classes, ref BitWriter output)
    {
        output.Reserve(classes.Length * LargestClass);
        var writer = output;
        var lengths = code.Lengths;
        var codes = code.Codes;
        for (; !classes.IsEmpty; classes = classes[Math.Min(AtOnce, classes.Length)..])
        {
            var (bits, length) = (0ul, 0);
            for (var j = 0; j < AtOnce && j < classes.Length; j++)
            {
                var (symbol, sign) = (classes[j] & SymbolMask, (uint)classes[j] >> SignShift);
                var own = 1 + lengths[symbol];
                bits = (bits << own) | ((uint)codes[symbol] << 1) | sign;
                length += own;
            }

            writer.Write(bits, length);
        }

        output = writer;
    }

    /// <summary>Writes the numbers, of those that are long all but the last bits; then these.</summary>
    /// <param name="numbers">The numbers.</param>
    /// <param name="widths">How many values are in each class; overwritten.</param>
    /// <param name="output">Where they are written.</param>
    private static void WriteNumbers(scoped ReadOnlySpan<ulong> numbers, scoped Span<ulong> widths, ref BitWriter output)
    {
        output.Reserve((numbers.Length * LargestNumber) + (Block / 8));
        var writer = output;
        widths = widths[..numbers.Length];
        for (var j = 0; j < numbers.Length; j++)
        {
            var bits = BitsOf(widths[j]);
            var lastShort = LastShortOf(widths[j], bits);

            // Without branches, since half of the numbers are long, and which ones can't be predicted.
            var isLong = numbers[j] > lastShort ? 1 : 0;
            var number = numbers[j] + ((lastShort + 1) & (ulong)-isLong);
            widths[j] = ((ulong)isLong << 1) | (number & (ulong)isLong);
            if (TFormat.Width <= 32) writer.Write(number >> isLong, bits);
            else writer.WriteLong(number >> isLong, bits);
        }

        for (var start = 0; start < widths.Length; start += BitsAtOnce)
        {
            var (bits, length) = (0ul, 0);
            for (var j = start; j < widths.Length && j < start + BitsAtOnce; j++)
            {
                var isLong = (int)(widths[j] >> 1);
                bits = (bits << isLong) | (widths[j] & 1);
                length += isLong;
            }

            writer.Write(bits, length);
        }

        output = writer;
    }

    /// <summary>Reads classes and signs, several at once.</summary>
    /// <param name="table">The code of the classes.</param>
    /// <param name="classes">Receives the classes, with the signs in the highest bits.</param>
    /// <param name="input">Where they are.</param>
    private static void ReadClasses(ReadOnlySpan<ushort> table, scoped Span<byte> classes, ref BitReader input)
    {
        var reader = input;
        var isBroken = 0u;
        for (; classes.Length >= AtOnce; classes = classes[AtOnce..])
        {
            var window = reader.Peek();
            var read = Read(table, ref window, ref classes[0], ref isBroken);
            read += Read(table, ref window, ref classes[1], ref isBroken);
            read += Read(table, ref window, ref classes[2], ref isBroken);
            read += Read(table, ref window, ref classes[3], ref isBroken);
            reader.Skip(read);
        }

        foreach (ref var last in classes)
        {
            var window = reader.Peek();
            reader.Skip(Read(table, ref window, ref last, ref isBroken));
        }

        if ((int)isBroken < 0) throw new WireFormatException("The values hold a code that stands for nothing.");
        input = reader;

        // Entries that stand for nothing are 0, and only they become negative.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static int Read(ReadOnlySpan<ushort> table, ref ulong window, ref byte result, ref uint isBroken)
        {
            var entry = (uint)table[(int)(window >> (64 - PrefixCode.LongestCode))];
            isBroken |= entry - 1;
            var length = PrefixCode.LengthOf(entry);
            var rest = window << length;
            result = (byte)((uint)(rest >> 63 << SignShift) | PrefixCode.SymbolOf(entry));
            window = rest << 1;
            return length + 1;
        }
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
        var symbol = classes[j] & SymbolMask;
        var a = Load(old, j) ^ (TFormat.Sign & (0 - ((ulong)classes[j] >> SignShift)));
        if (symbol == ChangeDistribution.Raw)
        {
            (orders[j], widths[j]) = (0, Mask + 1);
            return;
        }

        if (!TFormat.IsFinite(a)) throw new WireFormatException("A value that is not finite is said to change by a number.");
        var start = Order(TFormat.Round(a));
        var lower = Boundary(symbol, sizes, a, start);
        var upper = Boundary(symbol + 1, sizes, a, start);
        if (upper <= lower) throw new WireFormatException("The values hold a change that leads to no value.");
        (orders[j], widths[j]) = (lower, upper - lower);
    }

    /// <summary>Reads numbers, and adds them to the places of the first values.</summary>
    /// <param name="orders">The places.</param>
    /// <param name="widths">How many values are in each class; overwritten.</param>
    /// <param name="input">Where the numbers are.</param>
    private static void ReadNumbers(scoped Span<ulong> orders, scoped Span<ulong> widths, ref BitReader input)
    {
        var reader = input;
        widths = widths[..orders.Length];
        for (var j = 0; j < orders.Length; j++)
        {
            var bits = BitsOf(widths[j]);
            var lastShort = LastShortOf(widths[j], bits);
            ulong number;
            if (TFormat.Width <= 32)
            {
                number = reader.Peek() >> 1 >> (63 - bits);
                reader.Skip(bits);
            }
            else
            {
                number = reader.ReadLong(bits);
            }

            // A long one is 2 · number + its last bit − the number of short ones.
            var isLong = number > lastShort ? 1ul : 0;
            orders[j] += number + ((number - lastShort - 1) & (0 - isLong));
            widths[j] = isLong;
        }

        for (var start = 0; start < orders.Length; start += BitsAtOnce)
        {
            var window = reader.Peek();
            var read = 0ul;
            for (var j = start; j < orders.Length && j < start + BitsAtOnce; j++)
            {
                orders[j] += (window >> 63) & widths[j];
                window <<= (int)widths[j];
                read += widths[j];
            }

            reader.Skip((int)read);
        }

        input = reader;
    }

    /// <summary>The bits of a number among so many, of the short ones: W where it is a value as it is.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int BitsOf(ulong width) => TFormat.Width == 64 && width == 0 ? 64 : BitOperations.Log2(width);

    /// <summary>The last of the numbers that have only so many bits. Those after it take one more.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong LastShortOf(ulong width, int bits) => TFormat.Width == 64 && width == 0 ? ulong.MaxValue : (2ul << bits) - width - 1;

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
        var code = (classes[j] & SymbolMask) == ChangeDistribution.Raw ? orders[j] : FromOrder(orders[j]) ^ (SignBit & (0 - ((ulong)classes[j] >> SignShift)));
        Store(values, j, TFormat.Widen(code));
    }

    /// <summary>Looks for the sizes and the code that sampled changes take the fewest bits with.</summary>
    /// <param name="model">The model to be fitted.</param>
    /// <param name="samples">The changes.</param>
    /// <param name="smallest">The bits of the smallest size of all changes.</param>
    /// <param name="weight">How many changes each sample stands for.</param>
    private static void Fit(ChangeDistribution model, ReadOnlySpan<ChangeSize> samples, uint smallest, double weight)
    {
        model.UseFixedCode();
        if (samples.IsEmpty)
        {
            model.SetSizes(0, ChangeDistribution.MagnitudeBits);
            return;
        }

        Span<int> counts = stackalloc int[PrefixCode.Symbols];
        var best = (Cost: double.PositiveInfinity, Base: 0u, Shift: 0, IsFixed: true);
        foreach (var start in (ReadOnlySpan<uint>)[smallest, SizeAtRank(samples, samples.Length / OneBelowBase)])
        {
            // Within the same class there is nothing to gain.
            if (best.Cost < double.PositiveInfinity && start >> best.Shift == best.Base >> best.Shift) continue;
            var sum = 0L;
            foreach (var sample in samples) sum += Math.Max(0, (long)sample.Bits - start);
            var worse = 0;
            for (var shift = Math.Min(ChangeDistribution.MagnitudeBits - 1, BitOperations.Log2((ulong)Math.Max(1, sum / samples.Length)) + 1); shift >= 0 && worse < 2; shift--)
            {
                var cost = ChangeDistribution.Cost(samples, weight, start, shift, counts, out var isFixed);
                worse = cost < best.Cost ? 0 : worse + 1;
                if (worse == 0) best = (cost, start, shift, isFixed);
            }
        }

        model.SetSizes(best.Base, best.Shift);
        if (best.IsFixed) return;
        ChangeDistribution.Cost(samples, weight, best.Base, best.Shift, counts, out _);
        model.FitCode(counts);
    }

    /// <summary>The size that so many are smaller than.</summary>
    private static uint SizeAtRank(ReadOnlySpan<ChangeSize> samples, int rank)
    {
        Span<uint> smallest = stackalloc uint[rank + 1];
        smallest.Fill(uint.MaxValue);
        foreach (var (size, _) in samples)
        {
            if (size >= smallest[rank]) continue;
            var place = rank;
            for (; place > 0 && smallest[place - 1] > size; place--) smallest[place] = smallest[place - 1];
            smallest[place] = size;
        }

        return smallest[rank];
    }

    /// <summary>The smallest of the largest sizes that lead to each of the new values; unchanged and infinite ones don't count.</summary>
    private static float SmallestSize(ReadOnlySpan<byte> old, ReadOnlySpan<byte> values)
    {
        var smallest = float.MaxValue;
        var count = CountOf(old, values);
        var j = 0;
        if (TFormat.Size == sizeof(float))
        {
            var before = MemoryMarshal.Cast<byte, float>(old);
            var after = MemoryMarshal.Cast<byte, float>(values);
            var smallests = new Vector<float>(smallest);
            for (; j <= count - Vector<float>.Count; j += Vector<float>.Count)
            {
                var value = new Vector<float>(after[j..]);
                var distance = Vector.Abs(before.IsEmpty ? value : value - new Vector<float>(before[j..]));
                var half = Vector.AsVectorSingle(Vector.AsVectorUInt32(value) & new Vector<uint>(ChangeSize.ExponentMask)) * TFormat.HalfStepOfOne;
                smallests = Vector.Min(smallests, Vector.ConditionalSelect(Vector.GreaterThan(distance, half), distance + half, smallests));
            }

            for (var i = 0; i < Vector<float>.Count; i++) smallest = Math.Min(smallest, smallests[i]);
        }

        for (; j < count; j++)
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
        var start = Order(TFormat.Round(a));
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
    private static ulong Order(ulong code) => TFormat.Width == 32
        ? (uint)code ^ ((uint)((int)code >> 31) | 0x80000000)
        : code ^ (SignBit | (Mask & (0 - (code >> (TFormat.Width - 1)))));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong FromOrder(ulong order) => TFormat.Width == 32
        ? (uint)order ^ (~(uint)((int)order >> 31) | 0x80000000)
        : order ^ (SignBit | (Mask & ((order >> (TFormat.Width - 1)) - 1)));

    /// <summary>Where a class begins.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Boundary(int symbol, ReadOnlySpan<float> sizes, ulong old, ulong start)
    {
        var boundary = Math.Max(start + 1, Order(TFormat.Add(old, sizes[symbol])));
        return symbol == ChangeDistribution.Unchanged ? start : boundary;
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

        /// <summary>What a model is fitted to. What selected a change by its size was not above the largest that leads to the same value.</summary>
        public ChangeSize Size
        {
            get
            {
                var half = TFormat.HalfStep(Code);
                return new(BitConverter.SingleToUInt32Bits(Math.Clamp(Distance + half, 0, float.MaxValue)), ChangeSize.Log2(BitConverter.SingleToUInt32Bits(half)) + 1);
            }
        }
    }
}
