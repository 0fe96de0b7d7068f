namespace ContinuousDL.Cuda.Tests;

/// <summary>Gradients to test with.</summary>
internal static class Vectors
{
    /// <summary>The kinds that selections are compared on.</summary>
    public static IReadOnlyDictionary<string, Func<int, int, float[]>> Kinds { get; } = new Dictionary<string, Func<int, int, float[]>>
    {
        ["heavy tails"] = HeavyTailed,
        ["many ties"] = (n, seed) => Of(n, seed, random => random.Next(-3, 4) * (random.Next(2) == 0 ? 0.5f : -0f)),
        ["all equal"] = (n, _) => Enumerable.Repeat(0.25f, n).ToArray(),
        ["opposite signs"] = (n, seed) => Of(n, seed, random => random.Next(2) == 0 ? 1 : -1),
        ["all zero"] = (n, _) => new float[n],
        ["negative zeros"] = (n, _) => Enumerable.Repeat(-0f, n).ToArray(),
        ["nearly all zero"] = (n, seed) => Of(n, seed, random => random.Next(500) == 0 ? random.NextSingle() : 0),
        ["denormals"] = (n, seed) => Of(n, seed, random => BitConverter.Int32BitsToSingle(random.Next(1 << 12)) * (random.Next(2) == 0 ? 1 : -1)),
        ["ascending"] = (n, _) => [.. Enumerable.Range(0, n).Select(i => i * 1e-3f)],
        ["every bit pattern but NaN"] = (n, seed) => Of(n, seed, random => AnyBits(random) is var x && float.IsNaN(x) ? float.MaxValue : x),
        ["infinities"] = (n, seed) => Of(n, seed, random => random.Next(20) switch { 0 => float.PositiveInfinity, 1 => float.NegativeInfinity, _ => random.NextSingle() }),
        ["NaN"] = (n, seed) => Of(n, seed, random => random.Next(20) == 0 ? float.NaN : random.NextSingle()),
    };

    /// <summary>Uniform times a power of ten: a few values are far larger than the rest.</summary>
    public static float[] HeavyTailed(int n, int seed) =>
        Of(n, seed, random => (float)((random.NextDouble() - 0.5) * Math.Pow(10, (6 * random.NextDouble() * random.NextDouble()) - 4)));

    /// <summary>Values drawn one by one.</summary>
    public static float[] Of(int n, int seed, Func<Random, float> draw)
    {
        var random = new Random(seed);
        var values = new float[n];
        for (var i = 0; i < n; i++) values[i] = draw(random);
        return values;
    }

    private static float AnyBits(Random random) => BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue));
}
