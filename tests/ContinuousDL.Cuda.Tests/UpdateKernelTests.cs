using ContinuousDL.Compression;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Vectors;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>The kernels over k coordinates of a vector, on ILGPU's CPU accelerator and as interpreted PTX.</summary>
[TestFixture(false)]
[TestFixture(true)]
public class UpdateKernelTests(bool interpreted)
{
    private IKernelQueue queue = null!;

    [OneTimeSetUp]
    public void Start() => queue = interpreted ? new PtxQueue((8, 0), 32, 3) : new AcceleratorQueue(groupSize: 16, fullGrid: 3);

    [OneTimeTearDown]
    public void Stop() => (queue as IDisposable)?.Dispose();

    [TestCase(1, 1, false)]
    [TestCase(1000, 37, false)]
    [TestCase(1000, 37, true)]
    [TestCase(100_000, 5000, true)]
    public void Gather_reads_what_the_random_compressor_sends(int n, int k, bool unbiased)
    {
        var vector = Vectors.HeavyTailed(n, 1);
        var expected = new CompressedGradient();
        RandomKCompressor.OfCount(k, unbiased).Compress(vector, new VectorLayout(n), expected);

        using var source = tensor(vector);
        using var indices = tensor(expected.Indices.ToArray());
        using var values = full(k, unbiased ? (float)((double)n / k) : 1f);
        queue.Launch(nameof(UpdateKernels.Gather), 5, [DeviceMemory.View(source), DeviceMemory.View(indices), DeviceMemory.View(values)]);
        values.data<float>().ToArray().Should().Equal(expected.Values.ToArray());
    }
}
