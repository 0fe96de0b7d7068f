using System.Numerics;

namespace ContinuousDL.Replication.Wire;

/// <summary>A canonical prefix code of the 40 symbols of a <see cref="ChangeDistribution"/>: the one that the format fixes, or one whose lengths are sent.</summary>
internal sealed class PrefixCode
{
    /// <summary>The number of symbols.</summary>
    public const int Symbols = 40;

    /// <summary>The longest code in bits: what fits a table in the first-level cache.</summary>
    public const int LongestCode = 12;

    /// <summary>The bits of a length that is sent.</summary>
    public const int LengthBits = 4;

    /// <summary>The cost of a fitted code above the entropy, in bits for each symbol: whole bits, and symbols that do not occur.</summary>
    public const double Redundancy = 0.04;

    /// <summary>Where the symbol is in an entry of the table; the length is below it.</summary>
    private const int SymbolShift = 8;

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

    /// <summary>
    /// For each value of the next 12 bits the symbol and the length of its code; 0 where no code begins like that. For reading: not
    /// there after <see cref="Fit"/>.
    /// </summary>
    public ReadOnlySpan<ushort> Table => table;

    /// <summary>The symbol of an entry of the table.</summary>
    public static uint SymbolOf(uint entry) => entry >> SymbolShift;

    /// <summary>The length of an entry of the table; 0 where it stands for nothing.</summary>
    public static int LengthOf(uint entry) => (byte)entry;

    /// <summary>Makes a good code for counted symbols. Every symbol gets one, seen or not.</summary>
    /// <param name="counts">How often each occurs.</param>
    public void Fit(ReadOnlySpan<int> counts)
    {
        Span<long> weights = stackalloc long[Symbols];
        for (var s = 0; s < Symbols; s++) weights[s] = (16L * counts[s]) + 1;
        while (!TryHuffman(weights, lengths))
        {
            foreach (ref var weight in weights) weight = (weight + 1) / 2;
        }

        SetCodes();
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
        newLengths.CopyTo(lengths);
        SetCodes();
        SetTable();
        return true;
    }

    private static PrefixCode CreateFixed()
    {
        var code = new PrefixCode();
        code.lengths.AsSpan().Fill(LongestCode);
        for (var s = 2; s <= 7; s++) code.lengths[s] = (byte)(s - 1);
        code.SetCodes();
        code.SetTable();
        return code;
    }

    /// <summary>Gives codes to lengths: in the order of length, then symbol, each is the one before plus one.</summary>
    private void SetCodes()
    {
        Span<int> next = stackalloc int[LongestCode + 2];
        next.Clear();
        foreach (var length in lengths)
        {
            if (length > 0) next[length + 1]++;
        }

        // The first code of a length: after the last one of the length below, and twice as many.
        for (var length = 2; length <= LongestCode; length++) next[length] = (next[length - 1] + next[length]) << 1;
        for (var s = 0; s < Symbols; s++) codes[s] = lengths[s] == 0 ? (ushort)0 : (ushort)next[lengths[s]]++;
    }

    private void SetTable()
    {
        table.AsSpan().Clear();
        for (var s = 0; s < Symbols; s++)
        {
            if (lengths[s] == 0) continue;
            var unused = LongestCode - lengths[s];
            table.AsSpan(codes[s] << unused, 1 << unused).Fill((ushort)((s << SymbolShift) | lengths[s]));
        }
    }

    /// <summary>Huffman's algorithm, with one queue of the symbols in the order of their weights and one of the nodes as they are made.</summary>
    /// <returns>False when a code gets too long.</returns>
    private static bool TryHuffman(ReadOnlySpan<long> weights, Span<byte> result)
    {
        const int nodes = (2 * Symbols) - 1;
        const int symbolBits = 6;
        Span<long> sorted = stackalloc long[Symbols];
        for (var s = 0; s < Symbols; s++) sorted[s] = (weights[s] << symbolBits) | (uint)s;
        sorted.Sort();
        Span<long> weight = stackalloc long[nodes];
        for (var i = 0; i < Symbols; i++) weight[i] = sorted[i] >> symbolBits;

        Span<int> parent = stackalloc int[nodes];
        var (symbol, made) = (0, Symbols);
        for (var node = Symbols; node < nodes; node++)
        {
            weight[node] = 0;
            for (var child = 0; child < 2; child++)
            {
                var lightest = symbol < Symbols && (made == node || weight[symbol] <= weight[made]) ? symbol++ : made++;
                weight[node] += weight[lightest];
                parent[lightest] = node;
            }
        }

        Span<byte> depth = stackalloc byte[nodes];
        depth[nodes - 1] = 0;
        for (var node = nodes - 2; node >= 0; node--) depth[node] = (byte)(depth[parent[node]] + 1);
        for (var i = 0; i < Symbols; i++)
        {
            if (depth[i] > LongestCode) return false;
            result[(int)(sorted[i] & ((1 << symbolBits) - 1))] = depth[i];
        }

        return true;
    }
}
