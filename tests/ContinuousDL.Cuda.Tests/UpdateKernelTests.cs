using ContinuousDL.Compression;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Parameters;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>The kernels over k coordinates, on ILGPU's CPU accelerator and as interpreted PTX.</summary>
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

    [TestCase(0)]
    [TestCase(1)]
    [TestCase(33)]
    [TestCase(5000)]
    public void Scatter_writes_words_and_adds_up_what_the_digest_changes_by(int k)
    {
        const int Offset = 77;
        var random = new Random(k);
        var old = Vectors.HeavyTailed(20_000, 1).Select(BitConverter.SingleToInt32Bits).ToArray();
        var places = Enumerable.Range(0, old.Length).OrderBy(_ => random.Next()).Take(k).Order().ToArray();
        var bits = places.Select(p => random.Next(3) == 0 ? old[p] : random.Next(int.MinValue, int.MaxValue)).ToArray();
        using var target = tensor(old);
        using var coordinates = tensor(places.Select(p => p + Offset).ToArray());
        using var values = tensor(bits);
        using var digest = tensor(new[] { -5L });

        queue.Launch(
            nameof(UpdateKernels.ScatterWords),
            4,
            [DeviceMemory.View(target), DeviceMemory.View(coordinates), DeviceMemory.View(values), DeviceMemory.View(digest), Offset]);

        var sum = unchecked((ulong)-5L);
        for (var j = 0; j < k; j++)
        {
            sum += StateDigest.Change(places[j] + Offset, (uint)old[places[j]], (uint)bits[j]);
            old[places[j]] = bits[j];
        }

        target.data<int>().ToArray().Should().Equal(old);
        ((ulong)digest.item<long>()).Should().Be(sum);
    }

    [Test]
    public unsafe void Scatter_writes_half_words_and_adds_up_what_the_digest_changes_by()
    {
        var random = new Random(3);
        var old = Enumerable.Range(0, 3001).Select(_ => (ushort)random.Next(65536)).ToArray();
        var places = Enumerable.Range(0, old.Length).Where(_ => random.Next(4) == 0).ToArray();
        var bits = places.Select(_ => (ushort)random.Next(65536)).ToArray();
        var target = old.ToArray();
        using var coordinates = tensor(places);
        using var digest = tensor(new[] { 0L });

        fixed (ushort* elements = target, values = bits)
        {
            queue.Launch(
                nameof(UpdateKernels.ScatterHalfWords),
                4,
                [
                    KernelArgument.View((nint)elements, target.Length),
                    DeviceMemory.View(coordinates),
                    KernelArgument.View((nint)values, bits.Length),
                    DeviceMemory.View(digest),
                    0,
                ]);
        }

        var sum = 0ul;
        for (var j = 0; j < places.Length; j++)
        {
            sum += StateDigest.Change(places[j], old[places[j]], bits[j]);
            old[places[j]] = bits[j];
        }

        target.Should().Equal(old);
        ((ulong)digest.item<long>()).Should().Be(sum);
    }
}
