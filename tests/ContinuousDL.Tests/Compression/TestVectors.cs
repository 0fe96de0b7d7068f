using System.Runtime.InteropServices;
using CsCheck;

namespace ContinuousDL.Tests.Compression;

/// <summary>The kinds of vectors that compressors are tried on: ordinary ones and those that are hard to select from.</summary>
public enum VectorKind
{
    Normal,
    HeavyTailed,
    Constant,
    ConstantOfEitherSign,
    MostlyZero,
    SignedZeros,
    Denormal,
    FewDistinct,
    Ascending,
    Descending,
    Huge,
    NotFinite,
    AnyBits,
}

/// <summary>Makes vectors of each kind, the same for the same seed.</summary>
internal static class TestVectors
{
    public static readonly VectorKind[] Kinds = Enum.GetValues<VectorKind>();

    public static readonly VectorKind[] FiniteKinds = [.. Kinds.Except([VectorKind.NotFinite, VectorKind.AnyBits])];

    /// <summary>Lengths about the widths of vectors and blocks, and now and then one long enough for every path of a selection.</summary>
    public static readonly Gen<int> Lengths = Gen.Frequency((6, Gen.Int[0, 140]), (3, Gen.Int[141, 4000]), (1, Gen.Int[4001, 40_000]));

    public static Gen<T> OneOf<T>(T[] items) => Gen.Int[0, items.Length - 1].Select(i => items[i]);

    public static float[] Create(VectorKind kind, int n, int seed)
    {
        var random = new Random(seed);
        var vector = new float[n];
        for (var i = 0; i < n; i++)
        {
            vector[i] = kind switch
            {
                VectorKind.Normal or VectorKind.Ascending or VectorKind.Descending => (float)Normal(random),
                VectorKind.HeavyTailed => (float)(Sign(random) * Math.Exp(4 * Normal(random))),
                VectorKind.Constant => 0.25f,
                VectorKind.ConstantOfEitherSign => Sign(random) * 3f,
                VectorKind.MostlyZero => random.Next(20) == 0 ? (float)Normal(random) : 0,
                VectorKind.SignedZeros => random.Next(3) switch { 0 => 0f, 1 => -0f, _ => (float)Normal(random) },
                VectorKind.Denormal => (float)(Normal(random) * 1e-41),
                VectorKind.FewDistinct => random.Next(-2, 3) * 0.5f,
                VectorKind.Huge => (float)(Normal(random) * 1e37),
                VectorKind.NotFinite => random.Next(12) switch
                {
                    0 => float.NaN,
                    1 => -float.NaN,
                    2 => float.PositiveInfinity,
                    3 => float.NegativeInfinity,
                    _ => (float)Normal(random),
                },
                _ => BitConverter.Int32BitsToSingle((int)random.NextInt64(int.MinValue, 1L + int.MaxValue)),
            };
        }

        if (kind is VectorKind.Ascending or VectorKind.Descending) Array.Sort(vector, (a, b) => Math.Abs(a).CompareTo(Math.Abs(b)));
        if (kind is VectorKind.Descending) Array.Reverse(vector);
        return vector;
    }

    public static double Normal(Random random) =>
        Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());

    /// <summary>Cuts n coordinates into some tensors, empty ones among them.</summary>
    public static int[] Cut(int n, int seed)
    {
        var random = new Random(seed);
        var lengths = new List<int>();
        for (var rest = n; rest > 0; rest -= lengths[^1])
        {
            lengths.Add(Math.Min(rest, random.Next(random.Next(4) == 0 ? 3 : 1 + (n / 2))));
        }

        return [.. lengths];
    }

    /// <summary>Whether the two have the same bits: unlike ==, that tells −0 from 0, and NaN equals itself.</summary>
    public static bool SameBits(ReadOnlySpan<float> a, ReadOnlySpan<float> b) =>
        MemoryMarshal.Cast<float, int>(a).SequenceEqual(MemoryMarshal.Cast<float, int>(b));

    private static int Sign(Random random) => random.Next(2) == 0 ? -1 : 1;
}
