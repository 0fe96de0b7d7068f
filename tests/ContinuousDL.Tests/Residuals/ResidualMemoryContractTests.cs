using ContinuousDL.Compression;
using ContinuousDL.Residuals;
using ContinuousDL.State;
using ContinuousDL.Tests.Compression;
using ContinuousDL.Vectors;
using static ContinuousDL.Tests.Compression.TestVectors;

namespace ContinuousDL.Tests.Residuals;

/// <summary>What every residual memory keeps to.</summary>
[TestFixtureSource(nameof(Names))]
public class ResidualMemoryContractTests(string name)
{
    public static readonly string[] Names = [.. Memories.Keys];

    internal static Dictionary<string, Func<IResidualMemory>> Memories => new()
    {
        ["none"] = () => new NoResidualMemory(),
        ["error feedback"] = () => new ErrorFeedbackMemory(),
        ["error feedback with decay and gain"] = () => new ErrorFeedbackMemory(0.9, 0.5),
        ["momentum correction"] = () => new MomentumCorrectionMemory(),
        ["momentum correction with clipping"] = () => new MomentumCorrectionMemory(0.8, nesterov: true, momentumMasking: false, 2),
    };

    private static readonly VectorLayout Layout = new(100, 7, 0, 300, 1, 92);

    [Test]
    public void Release_keeps_what_was_accumulated_minus_what_was_sent_for_every_compressor_or_nothing_without_a_memory()
    {
        foreach (var (compressorName, create) in CompressorContractTests.Compressors)
        {
            using var memory = Create();
            var (compressor, sent) = (create(1), new CompressedGradient());
            for (var step = 0; step < 20; step++)
            {
                Accumulate(memory, step);
                var accumulated = memory.Accumulated.ToArray();
                compressor.Compress(accumulated, Layout, sent);
                memory.Release(sent);

                var dense = new float[Layout.Length];
                sent.CopyTo(dense);
                var rest = accumulated.Zip(dense, (a, s) => a - s).ToArray();
                memory.Accumulated.ToArray().Should().Equal(name == "none" ? new float[Layout.Length] : rest, compressorName);
                if (sent.Form != CompressedForm.Quantized && compressorName != "random-k unbiased")
                {
                    rest.Zip(dense, (r, s) => r + s).Should().Equal(accumulated, $"{compressorName} sends values as they are");
                }
            }
        }
    }

    [Test]
    public void Accumulate_in_parts_gives_what_one_part_gives()
    {
        using var whole = Create();
        using var parts = Create();
        var sent = new CompressedGradient();
        for (var step = 0; step < 10; step++)
        {
            var gradient = Gradient(step);
            whole.BeginStep(Norm(gradient));
            whole.Accumulate(gradient, 0);
            parts.BeginStep(Norm(gradient));
            foreach (var (start, end) in new[] { (250, 500), (0, 33), (33, 33), (33, 250) })
            {
                parts.Accumulate(gradient.AsSpan(start, end - start), start);
            }

            SameBits(parts.Accumulated, whole.Accumulated).Should().BeTrue();
            TopKCompressor.OfCount(50).Compress(whole.Accumulated, Layout, sent);
            whole.Release(sent);
            parts.Release(sent);
        }
    }

    [Test]
    public void Accumulate_leaves_the_gradient_unchanged()
    {
        using var memory = Create();
        var gradient = Gradient(1);
        memory.BeginStep(1);
        memory.Accumulate(gradient, 0);
        gradient.Should().Equal(Gradient(1));
    }

    [Test]
    public void LoadState_continues_bit_identically()
    {
        using var original = Create();
        Run(original, 0, 20);
        using var restored = Create();
        Run(restored, 50, 3);
        restored.LoadState(Reader(State(original)));
        Run(original, 20, 20);
        Run(restored, 20, 20);
        SameBits(restored.Accumulated, original.Accumulated).Should().BeTrue();
        State(restored).Should().Equal(State(original));
    }

    [Test]
    public void LoadState_cut_short_or_damaged_throws_and_changes_nothing()
    {
        using var original = Create();
        Run(original, 0, 20);
        using var memory = Create();
        Run(memory, 50, 3);
        var (state, before) = (State(original), State(memory));
        var random = new Random(1);
        for (var i = 0; i < 100; i++)
        {
            var damaged = state.ToArray();
            damaged[i < 60 ? Math.Min(i, state.Length - 1) : random.Next(state.Length)] ^= (byte)(1 << random.Next(8));
            ShouldRefuse(memory, damaged);
            ShouldRefuse(memory, state[..random.Next(state.Length)]);
        }

        State(memory).Should().Equal(before);
    }

    [Test]
    public void LoadState_of_another_memory_or_length_throws()
    {
        foreach (var (otherName, create) in Memories)
        {
            using var other = create();
            other.Attach(otherName == name ? new VectorLayout(501) : Layout);
            using var memory = Create();
            ShouldRefuse(memory, State(other));
        }
    }

    [Test]
    public void LoadState_reads_no_more_than_its_own()
    {
        using var memory = Create();
        var state = State(memory);
        var stream = new MemoryStream([.. state, 1, 2, 3]);
        memory.LoadState(new BinaryReader(stream));
        stream.Position.Should().Be(state.Length);
    }

    [Test]
    public void Use_before_Attach_throws()
    {
        using var memory = Memories[name]();
        memory.BeginStep(1);
        FluentActions.Invoking(() => memory.Accumulate([1], 0)).Should().Throw<InvalidOperationException>().WithMessage("*Attach*");
        FluentActions.Invoking(() => memory.Accumulated.Length).Should().Throw<InvalidOperationException>();
        FluentActions.Invoking(() => memory.Release(new CompressedGradient())).Should().Throw<InvalidOperationException>();
        FluentActions.Invoking(() => State(memory)).Should().Throw<InvalidOperationException>();
    }

    [Test]
    public void Attach_twice_throws()
    {
        using var memory = Create();
        memory.Invoking(m => m.Attach(Layout)).Should().Throw<InvalidOperationException>();
    }

    [Test]
    public void Dispose_twice_is_harmless_and_use_afterwards_throws()
    {
        foreach (var memory in new[] { Create(), Memories[name]() })
        {
            memory.BeginStep(1);
            memory.Dispose();
            memory.Dispose();
            memory.Invoking(m => m.Attach(Layout)).Should().Throw<ObjectDisposedException>();
            memory.Invoking(m => m.Accumulate([1], 0)).Should().Throw<ObjectDisposedException>();
            memory.Invoking(m => m.Accumulated.Length).Should().Throw<ObjectDisposedException>();
            memory.Invoking(m => m.Release(new CompressedGradient())).Should().Throw<ObjectDisposedException>();
            memory.Invoking(m => State(m)).Should().Throw<ObjectDisposedException>();
        }
    }

    [TestCase(-1, 1)]
    [TestCase(500, 1)]
    [TestCase(400, 101)]
    [TestCase(int.MaxValue, 1)]
    public void Accumulate_out_of_range_throws(int offset, int length)
    {
        using var memory = Create();
        memory.BeginStep(1);
        memory.Invoking(m => m.Accumulate(new float[length], offset))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName("offset");
    }

    [Test]
    public void Release_of_another_length_throws()
    {
        using var memory = Create();
        var sent = new CompressedGradient();
        sent.SetSparse(499, 0);
        memory.Invoking(m => m.Release(sent)).Should().Throw<ArgumentException>().WithParameterName("sent").WithMessage("*499*500*");
    }

    [Test]
    public void A_step_in_the_steady_state_allocates_nothing()
    {
        using var memory = Create();
        var (gradient, compressor, sent) = (Gradient(1), new TopKCompressor(0.1), new CompressedGradient());
        for (var i = 0; i < 5; i++) Step();
        AllocatedBytes.OfRun(Step).Should().Be(0);

        void Step()
        {
            memory.BeginStep(3);
            memory.Accumulate(gradient.AsSpan(100, 300), 100);
            memory.Accumulate(gradient.AsSpan(0, 50), 0);
            compressor.Compress(memory.Accumulated, Layout, sent);
            memory.Release(sent);
        }
    }

    private static void Run(IResidualMemory memory, int first, int steps)
    {
        var sent = new CompressedGradient();
        for (var step = first; step < first + steps; step++)
        {
            Accumulate(memory, step);
            TopKCompressor.OfCount(30).Compress(memory.Accumulated, Layout, sent);
            memory.Release(sent);
        }
    }

    private static void Accumulate(IResidualMemory memory, int step)
    {
        var gradient = Gradient(step);
        memory.BeginStep(Norm(gradient));
        memory.Accumulate(gradient, 0);
    }

    private static float[] Gradient(int step) => TestVectors.Create(VectorKind.Normal, Layout.Length, step);

    private static double Norm(float[] gradient) => Math.Sqrt(gradient.Sum(x => (double)x * x));

    private static byte[] State(IResidualMemory memory)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream);
        memory.SaveState(writer);
        writer.Flush();
        return stream.ToArray();
    }

    private static BinaryReader Reader(byte[] state) => new(new MemoryStream(state));

    private static void ShouldRefuse(IResidualMemory memory, byte[] state) =>
        memory.Invoking(m => m.LoadState(Reader(state))).Should().Throw<InvalidDataException>();

    private IResidualMemory Create()
    {
        var memory = Memories[name]();
        memory.Attach(Layout);
        return memory;
    }
}
