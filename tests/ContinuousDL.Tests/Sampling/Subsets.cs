using System.Numerics;

namespace ContinuousDL.Tests.Sampling;

/// <summary>
/// Draws of k from n without replacement, as subsets (bit i: item i is drawn), with the probabilities that drawing one after
/// the other by weight gives them, by going through every order.
/// </summary>
internal static class Subsets
{
    public static IReadOnlyList<uint> Of(int n, int k) =>
        [.. Enumerable.Range(0, 1 << n).Select(bits => (uint)bits).Where(bits => BitOperations.PopCount(bits) == k)];

    public static double[] Probabilities(double[] weights, int k)
    {
        var probabilities = new double[1 << weights.Length];
        Visit(0, 1, k);
        return [.. Of(weights.Length, k).Select(bits => probabilities[bits])];

        void Visit(uint drawn, double probability, int left)
        {
            if (left == 0)
            {
                probabilities[drawn] += probability;
                return;
            }

            var rest = weights.Where((_, i) => (drawn >> i & 1) == 0).Sum();
            for (var i = 0; i < weights.Length; i++)
            {
                if ((drawn >> i & 1) == 0) Visit(drawn | 1u << i, probability * weights[i] / rest, left - 1);
            }
        }
    }

    /// <summary>How often each subset of k of n comes up in a number of draws.</summary>
    /// <param name="draw">Fills k places with different items in [0, n).</param>
    public static long[] Count(int n, int k, int draws, Action<long[]> draw)
    {
        var counts = new long[1 << n];
        var places = new long[k];
        for (var i = 0; i < draws; i++)
        {
            draw(places);
            var bits = 0u;
            foreach (var item in places) bits |= 1u << (int)item;
            counts[bits]++;
        }

        counts.Sum().Should().Be(Of(n, k).Sum(bits => counts[bits]), "every draw should be of k different items");
        return [.. Of(n, k).Select(bits => counts[bits])];
    }
}
