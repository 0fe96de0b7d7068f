using System.Numerics;

namespace ContinuousDL.Wire;

/// <summary>A canonical prefix code of the 40 symbols of a <see cref="ChangeModel"/>: the one that the format fixes, or one whose lengths are sent.</summary>
internal sealed class PrefixCode
{
    /// <summary>The number of symbols.</summary>
    public const int Symbols = 40;

    /// <summary>The longest code in bits: what fits a table in the first-level cache.</summary>
    public const int LongestCode = 12;

    /// <summary>The bits of a length that is sent.</summary>
    public const int LengthBits = 4;

    /// <summary>What a fitted code takes above the entropy, in bits for each symbol: whole bits, and symbols that do not occur.</summary>
    public const double Redundancy = 0.04;

    private readonly byte[] lengths = new byte[Symbols];
    private readonly ushort[] codes = new ushort[Symbols];
    private readonly ushort[] table = new ushort[1 << LongestCode];

    /// <summary>
    /// The code that the format fixes: geometric, for what lies just above a threshold as the changes that a top-k selection
    /// picks do. Symbols 2 to 7 have the lengths 1 to 6, all others 12.
    /// </summary>
    public static PrefixCode Fixed { get; } = CreateFixed();

    /// <summary>The length of each symbol's code; 0 for a symbol that has none.</summary>
    public ReadOnlySpan<byte> Lengths => lengths;

    /// <summary>The code of each symbol, right-aligned.</summary>
    public ReadOnlySpan<ushort> Codes => codes;

    /// <summary>For each value of the next 12 bits the symbol · 16 + the length of its code; 0 where no code begins like that.</summary>
    public ReadOnlySpan<ushort> Table => table;

    /// <summary>Makes a good code for counted symbols. Every symbol gets one, seen or not.</summary>
    /// <param name="counts">How often each occurs.</param>
    public void Fit(ReadOnlySpan<int> counts)
    {
        Span<long> weights = stackalloc long[Symbols];
        for (var s = 0; s < Symbols; s++) weights[s] = (16L * counts[s]) + 1;
        Span<byte> fitted = stackalloc byte[Symbols];
        while (!TryHuffman(weights, fitted))
        {
            foreach (ref var weight in weights) weight = (weight + 1) / 2;
        }

        Set(fitted);
    }

    /// <summary>Takes over lengths.</summary>
    /// <returns>False when they are not those of a prefix code.</returns>
    public bool TrySet(ReadOnlySpan<byte> newLengths)
    {
        var used = 0;
        foreach (var length in newLengths)
        {
            if (length > LongestCode) return false;
            if (length > 0) used += 1 << (LongestCode - length);
        }

        if (used > 1 << LongestCode) return false;
        Set(newLengths);
        return true;
    }

    private static PrefixCode CreateFixed()
    {
        var code = new PrefixCode();
        Span<byte> lengths = stackalloc byte[Symbols];
        lengths.Fill(LongestCode);
        for (var s = 2; s <= 7; s++) lengths[s] = (byte)(s - 1);
        code.Set(lengths);
        return code;
    }

    /// <summary>Gives codes to lengths: in the order of length, then symbol, each is the one before plus one.</summary>
    private void Set(ReadOnlySpan<byte> newLengths)
    {
        newLengths.CopyTo(lengths);
        var next = 0;
        for (var length = 1; length <= LongestCode; length++)
        {
            var span = 1 << (LongestCode - length);
            for (var s = 0; s < Symbols; s++)
            {
                if (lengths[s] != length) continue;
                codes[s] = (ushort)(next >> (LongestCode - length));
                table.AsSpan(next, span).Fill((ushort)((s << 4) | length));
                next += span;
            }
        }

        table.AsSpan(next).Clear();
    }

    /// <summary>Huffman's algorithm.</summary>
    /// <returns>False when a code gets too long.</returns>
    private static bool TryHuffman(ReadOnlySpan<long> weights, Span<byte> result)
    {
        // Nodes: the symbols, then their parents in the order in which they are made, the root last.
        const int nodes = (2 * Symbols) - 1;
        Span<long> weight = stackalloc long[nodes];
        Span<int> parent = stackalloc int[nodes];
        weights.CopyTo(weight);
        var open = (UInt128.One << Symbols) - 1;
        for (var node = Symbols; node < nodes; node++)
        {
            var first = TakeLightest(weight, ref open);
            var second = TakeLightest(weight, ref open);
            parent[first] = parent[second] = node;
            weight[node] = weight[first] + weight[second];
            open |= UInt128.One << node;
        }

        for (var s = 0; s < Symbols; s++)
        {
            var depth = 0;
            for (var node = s; node != nodes - 1; node = parent[node]) depth++;
            if (depth > LongestCode) return false;
            result[s] = (byte)depth;
        }

        return true;
    }

    private static int TakeLightest(ReadOnlySpan<long> weight, ref UInt128 open)
    {
        var lightest = -1;
        for (var rest = open; rest != 0; rest &= rest - 1)
        {
            var node = (int)UInt128.TrailingZeroCount(rest);
            if (lightest < 0 || weight[node] < weight[lightest]) lightest = node;
        }

        open &= ~(UInt128.One << lightest);
        return lightest;
    }
}
