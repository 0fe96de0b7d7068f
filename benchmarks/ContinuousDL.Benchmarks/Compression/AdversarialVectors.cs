namespace ContinuousDL.Benchmarks.Compression;

/// <summary>Vectors that a top-k selection with a guessed threshold has a hard time with, and the order in which they come.</summary>
internal static class AdversarialVectors
{
    /// <summary>Their names.</summary>
    public static IReadOnlyList<string> Names { get; } =
        ["ascending", "descending", "all equal", "all zero", "all NaN", "two values", "denormals", "few nonzero", "scale jumps up and down", "largest at the end"];

    /// <summary>The vectors of a kind, to be compressed in turn.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="n">The number of coordinates.</param>
    public static float[][] Make(string name, int n)
    {
        var random = new Random(1);
        return name switch
        {
            "ascending" => [Fill(n, i => 1e-6f * (i + 1))],
            "descending" => [Fill(n, i => 1e-6f * (n - i))],
            "all equal" => [Fill(n, _ => 0.5f)],
            "all zero" => [new float[n]],
            "all NaN" => [Fill(n, _ => float.NaN)],
            "two values" => [Fill(n, _ => random.Next(2) == 0 ? 1f : -2f)],
            "denormals" => [Fill(n, _ => BitConverter.Int32BitsToSingle(random.Next(1 << 20)))],
            "few nonzero" => [Fill(n, i => i % (n / 5) == 1 ? 1f : 0)],
            "scale jumps up and down" => [Normal(n, 1, random), Normal(n, 1e3f, random), Normal(n, 1e-3f, random)],
            "largest at the end" => [Fill(n, i => i < n - (n / 16) ? random.NextSingle() : 10 + random.NextSingle())],
            _ => throw new ArgumentOutOfRangeException(nameof(name), name, "There is no such vector."),
        };
    }

    /// <summary>Normally distributed values.</summary>
    /// <param name="n">How many.</param>
    /// <param name="scale">Their standard deviation.</param>
    /// <param name="random">Where they come from.</param>
    public static float[] Normal(int n, float scale, Random random) =>
        Fill(n, _ => scale * (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble())));

    private static float[] Fill(int n, Func<int, float> value)
    {
        var vector = new float[n];
        for (var i = 0; i < n; i++) vector[i] = value(i);
        return vector;
    }
}
