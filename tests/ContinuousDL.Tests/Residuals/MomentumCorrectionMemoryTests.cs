using ContinuousDL.Compression;
using ContinuousDL.Residuals;
using ContinuousDL.Tests.Compression;
using ContinuousDL.Vectors;

namespace ContinuousDL.Tests.Residuals;

public class MomentumCorrectionMemoryTests
{
    private const int N = 77;
    private static readonly VectorLayout Layout = new(N);

    [Test]
    public void A_hundred_steps_agree_with_the_paper_for_all_options(
        [Values(0.0, 0.9)] double momentum, [Values] bool nesterov, [Values] bool masking, [Values(null, 3.0)] double? clipNorm)
    {
        using var memory = new MomentumCorrectionMemory(momentum, nesterov, masking, clipNorm);
        memory.Attach(Layout);
        memory.NeedsGradientNorm.Should().Be(clipNorm is not null);
        var (u, v, m) = (new float[N], new float[N], (float)momentum);
        var (compressor, sent) = (TopKCompressor.OfCount(5), new CompressedGradient());
        for (var step = 0; step < 100; step++)
        {
            var gradient = TestVectors.Create(VectorKind.Normal, N, step).Select(x => x * (1 + (step % 3)) * 0.3f).ToArray();
            var norm = Math.Sqrt(gradient.Sum(x => (double)x * x));
            memory.BeginStep(norm);
            memory.Accumulate(gradient, 0);
            var clipping = clipNorm < norm ? (float)(clipNorm.Value / norm) : 1;
            for (var i = 0; i < N; i++)
            {
                var g = gradient[i] * clipping;
                u[i] = nesterov ? m * (u[i] + g) : (m * u[i]) + g;
                v[i] += nesterov ? u[i] + g : u[i];
            }

            memory.Accumulated.ToArray().Should().Equal(v);
            compressor.Compress(v, Layout, sent);
            memory.Release(sent);
            foreach (var i in sent.Indices) (v[i], u[i]) = (0, masking ? 0 : u[i]);
        }
    }

    [Test]
    public void Everything_sent_is_plain_momentum_SGD([Values] bool masking)
    {
        using var memory = new MomentumCorrectionMemory(0.9, momentumMasking: masking);
        memory.Attach(Layout);
        var (sent, velocity) = (new CompressedGradient(), new float[N]);
        for (var step = 0; step < 20; step++)
        {
            var gradient = TestVectors.Create(VectorKind.Normal, N, step);
            memory.Accumulate(gradient, 0);
            new NoCompressor().Compress(memory.Accumulated, Layout, sent);
            memory.Release(sent);
            for (var i = 0; i < N; i++) velocity[i] = (0.9f * velocity[i]) + gradient[i];
            sent.Values.ToArray().Should().Equal(velocity);
        }
    }

    [Test]
    public void Masking_leaves_the_velocity_when_the_result_is_quantized()
    {
        using var memory = new MomentumCorrectionMemory(0.5);
        memory.Attach(new VectorLayout(2));
        var sent = new CompressedGradient();
        memory.Accumulate([4, -4], 0);
        new SignCompressor().Compress(memory.Accumulated, new VectorLayout(2), sent);
        memory.Release(sent);
        memory.Accumulate([0, 0], 0);
        memory.Accumulated.ToArray().Should().Equal(2, -2);
    }

    [Test]
    public void A_coordinate_without_a_gradient_keeps_what_it_is_owed_and_its_velocity()
    {
        using var memory = new MomentumCorrectionMemory(0.5);
        memory.Attach(new VectorLayout(1, 1));
        var sent = new CompressedGradient();
        sent.SetSparse(2, 0);
        memory.Accumulate([8, 8], 0);
        memory.Release(sent);
        memory.Accumulate([0], 0);
        memory.Accumulated.ToArray().Should().Equal(12, 8);
        memory.Release(sent);
        memory.Accumulate([0], 1);
        memory.Accumulated.ToArray().Should().Equal(12, 12);
    }

    [Test]
    public void Accumulate_with_clipping_needs_BeginStep_in_every_step()
    {
        using var memory = new MomentumCorrectionMemory(clipNorm: 1);
        memory.Attach(new VectorLayout(1));
        memory.Invoking(m => m.Accumulate([1], 0)).Should().Throw<InvalidOperationException>().WithMessage("*BeginStep*");
        memory.BeginStep(4);
        memory.Accumulate([4], 0);
        memory.Accumulated.ToArray().Should().Equal(1);
        var sent = new CompressedGradient();
        sent.SetSparse(1, 0);
        memory.Release(sent);
        memory.Invoking(m => m.Accumulate([1], 0)).Should().Throw<InvalidOperationException>();
    }

    [TestCase(-1)]
    [TestCase(double.NaN)]
    [TestCase(double.PositiveInfinity)]
    public void BeginStep_norm_out_of_range_throws(double norm)
    {
        using var memory = new MomentumCorrectionMemory(clipNorm: 1);
        memory.Invoking(m => m.BeginStep(norm)).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("gradientNorm");
    }

    [TestCase(-0.1, null, "momentum")]
    [TestCase(1.0, null, "momentum")]
    [TestCase(0.999999999999, null, "momentum")]
    [TestCase(double.NaN, null, "momentum")]
    [TestCase(0.9, 0.0, "clipNorm")]
    [TestCase(0.9, double.NaN, "clipNorm")]
    [TestCase(0.9, double.PositiveInfinity, "clipNorm")]
    public void Constructor_arguments_out_of_range_throw(double momentum, double? clipNorm, string argument) =>
        FluentActions.Invoking(() => new MomentumCorrectionMemory(momentum, clipNorm: clipNorm))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName(argument);
}
