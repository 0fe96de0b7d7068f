using System.Numerics;
using System.Runtime.InteropServices;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>Fits the distribution of a group's changes to a sample of them.</summary>
internal static class FloatFit<TFormat>
    where TFormat : struct, IFloatFormat
{
    /// <summary>How many changes a model is fitted to at least, if there are as many; otherwise it is one in <see cref="Sparseness"/>.</summary>
    private const int FewSamples = 256, Sparseness = 4;

    /// <summary>A base that leaves one change in so many below it, where the smallest ones are far from the others.</summary>
    private const int OneBelowBase = 32;

    /// <summary>Fits a model to the changes of a group.</summary>
    /// <param name="model">The model to be fitted.</param>
    /// <param name="runs">The update, at the first run of the group.</param>
    /// <param name="group">The group.</param>
    public static void Fit(ChangeDistribution model, ModelUpdate.Sections runs, ChangeGroup group)
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
            var length = FloatOrder<TFormat>.CountOf(old, values);
            smallest = Math.Min(smallest, SmallestSize(old, values));
            for (; skip < length; skip += stride)
            {
                if (FloatChange<TFormat>.TryOrient(old, values, skip, out var change) && change.Target != change.Start) samples[taken++] = change.Size;
            }

            skip -= length;
        }
        while (runs.MoveNext());

        Fit(model, samples[..taken], BitConverter.SingleToUInt32Bits(smallest), stride);
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
        var count = FloatOrder<TFormat>.CountOf(old, values);
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
            var code = TFormat.Narrow(FloatOrder<TFormat>.Load(values, j));
            var distance = Math.Abs(TFormat.Distance(old.IsEmpty ? 0 : FloatOrder<TFormat>.Load(old, j), code));
            var half = TFormat.HalfStep(code);

            // What is not a number is not above it.
            if (distance > half) smallest = Math.Min(smallest, distance + half);
        }

        return smallest;
    }
}
