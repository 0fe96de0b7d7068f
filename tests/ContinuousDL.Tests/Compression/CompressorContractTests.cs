using ContinuousDL.Compression;
using ContinuousDL.State;
using ContinuousDL.Vectors;
using static ContinuousDL.Tests.Compression.TestVectors;

namespace ContinuousDL.Tests.Compression;

/// <summary>What every compressor keeps to.</summary>
[TestFixtureSource(nameof(Names))]
public class CompressorContractTests(string name)
{
    public static readonly string[] Names = [.. Compressors.Keys];

    /// <summary>Every compressor in every mode of its own, for a seed.</summary>
    internal static Dictionary<string, Func<ulong, IGradientCompressor>> Compressors => new()
    {
        ["none"] = _ => new NoCompressor(),
        ["top-k"] = _ => new TopKCompressor(0.05),
        ["top-k per tensor"] = _ => new TopKCompressor(0.05, CompressionScope.PerTensor),
        ["top-k probabilistic"] = seed => new TopKCompressor(0.004, CompressionScope.PerTensor, SmallCountRounding.Probabilistic, seed),
        ["top-k of count"] = _ => TopKCompressor.OfCount(7),
        ["random-k"] = seed => new RandomKCompressor(0.05, seed: seed),
        ["random-k probabilistic"] =
            seed => new RandomKCompressor(0.004, false, CompressionScope.PerTensor, SmallCountRounding.Probabilistic, seed),
        ["random-k unbiased"] = seed => new RandomKCompressor(0.05, unbiased: true, seed: seed),
        ["threshold"] = _ => new ThresholdCompressor(0.5f),
        ["qsgd 8"] = seed => new QsgdCompressor(8, seed: seed),
        ["qsgd 2 unbiased"] = seed => new QsgdCompressor(2, QsgdRounding.Unbiased, seed),
        ["qsgd 4 nearest"] = _ => new QsgdCompressor(4, QsgdRounding.Nearest),
        ["sign"] = _ => new SignCompressor(),
        ["sign whole"] = _ => new SignCompressor(CompressionScope.WholeModel),
    };

    private static readonly VectorLayout Layout = new(100, 7, 0, 300, 1, 92);

    [TestCaseSource(typeof(TestVectors), nameof(Kinds))]
    public void Compress_any_vector_gives_a_valid_result_of_its_length(VectorKind kind)
    {
        var compressor = Create(1);
        var result = new CompressedGradient();
        for (var seed = 0; seed < 5; seed++)
        {
            compressor.Compress(TestVectors.Create(kind, Layout.Length, seed), Layout, result);
            result.Length.Should().Be(Layout.Length);
            var indices = result.Indices.ToArray();
            indices.Should().BeInAscendingOrder().And.OnlyHaveUniqueItems();
            indices.All(i => i >= 0 && i < Layout.Length).Should().BeTrue();
            result.SizeInBits.Should().Be(result.Form switch
            {
                CompressedForm.Sparse => 64 * indices.Length,
                CompressedForm.Dense => 32 * Layout.Length,
                _ => (BitsPerLevel * Layout.Length) + (32 * result.Scales.Length),
            });
        }
    }

    [Test]
    public void Compress_a_model_without_coordinates_gives_nothing()
    {
        var result = new CompressedGradient();
        foreach (var layout in new[] { new VectorLayout(), new VectorLayout(0, 0) })
        {
            Create(1).Compress([], layout, result);
            result.Count.Should().Be(0);
        }
    }

    [Test]
    public void Compress_a_vector_of_another_length_throws() =>
        FluentActions.Invoking(() => Create(1).Compress(new float[3], Layout, new CompressedGradient()))
            .Should().Throw<ArgumentException>().WithParameterName("vector").WithMessage("*3 coordinates*500*");

    [Test]
    public void Compress_leaves_the_vector_unchanged()
    {
        var vector = TestVectors.Create(VectorKind.HeavyTailed, Layout.Length, 1);
        var before = vector.ToArray();
        Create(1).Compress(vector, Layout, new CompressedGradient());
        vector.Should().Equal(before);
    }

    [Test]
    public void Compress_the_same_seed_gives_the_same_results() => Dense(Create(9), 20).Should().Equal(Dense(Create(9), 20));

    [Test]
    public void LoadState_continues_with_the_results_that_would_have_followed()
    {
        var original = Create(9);
        Dense(original, 20);
        using var stream = new MemoryStream(State(original));
        var restored = Create(10);
        Dense(restored, 3);
        restored.LoadState(new BinaryReader(stream));
        stream.Position.Should().Be(stream.Length);
        Dense(restored, 20).Should().Equal(Dense(original, 20));
    }

    [Test]
    public void State_is_empty_only_if_results_do_not_depend_on_the_seed()
    {
        if (IsDeterministic) Dense(Create(1), 20).Should().Equal(Dense(Create(2), 20));
        else Dense(Create(1), 20).Should().NotEqual(Dense(Create(2), 20));
    }

    [Test]
    public void LoadState_of_something_else_throws_and_changes_nothing()
    {
        var compressor = Create(9);
        var whole = State(compressor);
        var wrongKind = whole.ToArray();
        wrongKind[2] ^= 1;
        foreach (var bytes in new[] { [], whole[..3], whole[..^1], wrongKind, new byte[whole.Length] })
        {
            compressor.Invoking(c => c.LoadState(new BinaryReader(new MemoryStream(bytes)))).Should().Throw<InvalidDataException>();
        }

        Dense(compressor, 20).Should().Equal(Dense(Create(9), 20));
    }

    [Test]
    public void Compress_in_the_steady_state_allocates_nothing()
    {
        var (compressor, result) = (Create(1), new CompressedGradient());
        var vectors = Enumerable.Range(0, 10).Select(seed => TestVectors.Create(VectorKind.HeavyTailed, Layout.Length, seed)).ToArray();
        Round();
        AllocatedBytes.OfRun(Round).Should().Be(0);

        void Round()
        {
            foreach (var vector in vectors) compressor.Compress(vector, Layout, result);
        }
    }

    private int BitsPerLevel => name.StartsWith("sign", StringComparison.Ordinal) ? 1 : 1 + int.Parse(name.Split(' ')[1]);

    private bool IsDeterministic
    {
        get
        {
            using var stream = new MemoryStream();
            Create(1).WriteState(new BinaryWriter(stream));
            return stream.Length == 0;
        }
    }

    private static byte[] State(IGradientCompressor compressor)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream);
        compressor.SaveState(writer);
        writer.Flush();
        return stream.ToArray();
    }

    private IGradientCompressor Create(ulong seed) => Compressors[name](seed);

    /// <summary>What a compressor sends of some vectors, one after the other.</summary>
    private static float[] Dense(IGradientCompressor compressor, int steps)
    {
        var sent = new float[Layout.Length * steps];
        var result = new CompressedGradient();
        for (var step = 0; step < steps; step++)
        {
            compressor.Compress(TestVectors.Create(VectorKind.Normal, Layout.Length, step), Layout, result);
            result.CopyTo(sent.AsSpan(step * Layout.Length, Layout.Length));
        }

        return sent;
    }
}
