using System.Numerics;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Wire;

/// <summary>
/// The code of values that are not real floating-point numbers: counters, booleans, and whatever else is best taken for an
/// integer. The change, modulo the integer's size, as 0, −1, 1, −2, 2, … ↦ 0, 1, 2, 3, 4, …; the number of bits of that as
/// the symbol; and all of the bits but the first.
/// </summary>
internal sealed class IntegerCode(int size) : ValueCode
{
    /// <summary>The most bytes that one value can take.</summary>
    private const int LargestCode = (PrefixCode.LongestCode + 64 + 7) / 8;

    /// <inheritdoc />
    public override void WriteModel(ChangeDistribution model, ModelUpdate.Sections runs, ChangeGroup group, ref BitWriter writer)
    {
        Span<int> counts = stackalloc int[PrefixCode.Symbols];
        counts.Clear();
        do
        {
            if (!group.Has(runs.Entry)) continue;
            var old = group.Old(runs);
            for (var j = 0; j < runs.Values.Length / size; j++) counts[SymbolOf(ChangeOf(old, runs.Values, j))]++;
        }
        while (runs.MoveNext());

        var withFixed = 0L;
        for (var s = 0; s < counts.Length; s++) withFixed += (long)counts[s] * PrefixCode.Fixed.Lengths[s];
        model.FitCode(counts);
        var withFitted = (long)PrefixCode.LengthBits * PrefixCode.Symbols;
        for (var s = 0; s < counts.Length; s++) withFitted += (long)counts[s] * model.Code.Lengths[s];
        if (withFixed <= withFitted) model.UseFixedCode();
        model.WriteCode(ref writer);
    }

    /// <inheritdoc />
    public override void ReadModel(ChangeDistribution model, ref BitReader reader) => model.ReadCode(ref reader);

    /// <inheritdoc />
    public override void Encode(ChangeDistribution model, ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, ref BitWriter writer)
    {
        for (var j = 0; j < values.Length / size; j++)
        {
            writer.Reserve(LargestCode);
            var change = ChangeOf(old, values, j);
            var symbol = SymbolOf(change);
            writer.Write(model.Code.Codes[symbol], model.Code.Lengths[symbol]);
            if (symbol == ChangeDistribution.Raw) writer.WriteLong(change, 8 * size);
            else if (symbol > 1) writer.WriteLong(change - (1ul << (symbol - 1)), symbol - 1);
        }
    }

    /// <inheritdoc />
    public override void Decode(ChangeDistribution model, ReadOnlySpan<byte> old, Span<byte> values, ref BitReader reader)
    {
        var mask = ulong.MaxValue >> (64 - (8 * size));
        for (var j = 0; j < values.Length / size; j++)
        {
            uint entry = model.Code.Table[(int)(reader.Peek() >> (64 - PrefixCode.LongestCode))];
            var (symbol, length) = ((int)PrefixCode.SymbolOf(entry), PrefixCode.LengthOf(entry));
            if (length == 0) throw new WireFormatException("The values hold a code that stands for nothing.");
            reader.Skip(length);
            ulong change = symbol switch
            {
                0 => 0,
                ChangeDistribution.Raw => reader.ReadLong(8 * size),
                _ => (1ul << (symbol - 1)) | reader.Read(symbol - 1),
            };
            if (change > mask) throw new WireFormatException($"An integer of {size} bytes is said to change by more than it can.");
            var signed = (change >> 1) ^ (ulong)-(long)(change & 1);
            Scalars.Store(values, j, size, ((old.IsEmpty ? 0 : Scalars.Load(old, j, size)) + signed) & mask);
        }
    }

    /// <summary>The change of a value, with its sign in the lowest bit.</summary>
    private ulong ChangeOf(ReadOnlySpan<byte> old, ReadOnlySpan<byte> values, int index)
    {
        var unused = 64 - (8 * size);
        var difference = Scalars.Load(values, index, size) - (old.IsEmpty ? 0 : Scalars.Load(old, index, size));
        var signed = (long)(difference << unused) >> unused;
        return (ulong)((signed << 1) ^ (signed >> 63));
    }

    /// <summary>The symbol of a change: how many bits it has, unless those are too many.</summary>
    private static int SymbolOf(ulong change) => Math.Min(ChangeDistribution.Raw, 64 - BitOperations.LeadingZeroCount(change));
}
