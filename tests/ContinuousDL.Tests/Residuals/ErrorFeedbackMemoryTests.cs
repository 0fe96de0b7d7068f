using ContinuousDL.Compression;
using ContinuousDL.Residuals;
using ContinuousDL.Tests.Compression;
using ContinuousDL.Vectors;

namespace ContinuousDL.Tests.Residuals;

public class ErrorFeedbackMemoryTests
{
    private const int N = 77;

    [TestCase(1, 1)]
    [TestCase(0.9, 1)]
    [TestCase(1, 0.3)]
    [TestCase(0.5, 2)]
    [TestCase(0, 1)]
    public void Accumulated_is_decay_times_residual_plus_gain_times_gradient(double decay, double gain)
    {
        using var memory = new ErrorFeedbackMemory(decay, gain);
        memory.Attach(new VectorLayout(N));
        var (compressor, sent, expected) = (TopKCompressor.OfCount(5), new CompressedGradient(), new float[N]);
        for (var step = 0; step < 100; step++)
        {
            var gradient = TestVectors.Create(VectorKind.Normal, N, step);
            memory.Accumulate(gradient, 0);
            for (var i = 0; i < N; i++)
            {
                var owed = expected[i] * (float)decay;
                var added = gradient[i] * (float)gain;
                expected[i] = owed + added;
            }

            memory.Accumulated.ToArray().Should().Equal(expected);
            compressor.Compress(memory.Accumulated, new VectorLayout(N), sent);
            memory.Release(sent);
            foreach (var i in sent.Indices) expected[i] = 0;
        }
    }

    [Test]
    public void Accumulated_coordinate_without_a_gradient_keeps_what_it_is_owed()
    {
        using var memory = new ErrorFeedbackMemory(decay: 0.5);
        memory.Attach(new VectorLayout(2, 2));
        memory.Accumulate([1, 2, 3, 4], 0);
        memory.Accumulate([10, 10], 2);
        memory.Accumulated.ToArray().Should().Equal(1, 2, 11.5f, 12);
    }

    [TestCase(-0.1, 1, "decay")]
    [TestCase(1.1, 1, "decay")]
    [TestCase(double.NaN, 1, "decay")]
    [TestCase(1, 0, "gain")]
    [TestCase(1, double.PositiveInfinity, "gain")]
    [TestCase(1, 1e300, "gain")]
    public void Constructor_arguments_out_of_range_throw(double decay, double gain, string argument) =>
        FluentActions.Invoking(() => new ErrorFeedbackMemory(decay, gain))
            .Should().Throw<ArgumentOutOfRangeException>().WithParameterName(argument);
}
