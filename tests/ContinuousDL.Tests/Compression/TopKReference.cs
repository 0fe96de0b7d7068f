namespace ContinuousDL.Tests.Compression;

/// <summary>Top-k by a full sort: what the fast selection must agree with.</summary>
internal static class TopKReference
{
    public static int[] Select(ReadOnlySpan<float> vector, int k) => Select(Order(vector), k);

    /// <summary>All coordinates that are not zero, in the order in which they are to be selected.</summary>
    public static int[] Order(ReadOnlySpan<float> vector)
    {
        var magnitudes = vector.ToArray().Select(x => BitConverter.SingleToUInt32Bits(x) & 0x7fffffff).ToArray();
        var nonzero = Enumerable.Range(0, magnitudes.Length).Where(i => magnitudes[i] != 0);
        return [.. nonzero.OrderByDescending(i => magnitudes[i]).ThenBy(i => i)];
    }

    /// <summary>The first k of an order, ascending.</summary>
    public static int[] Select(int[] order, int k) => [.. order.Take(k).Order()];
}
