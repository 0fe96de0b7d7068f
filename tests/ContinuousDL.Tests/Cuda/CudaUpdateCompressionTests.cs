using ContinuousDL.Compression;
using ContinuousDL.Cuda;
using ContinuousDL.Deployment;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Cuda;

/// <summary>The operations of the CUDA path, run on the CPU, give what the CPU path gives.</summary>
public class CudaUpdateCompressionTests
{
    [Test]
    public void Selection_is_that_of_the_compressor()
    {
        var random = new Random(3);
        var result = new CompressedGradient();
        for (var round = 0; round < 300; round++)
        {
            var n = random.Next(1, 200);
            var k = random.Next(1, n + 1);

            // Few distinct values: many ties, zeros of both signs.
            var values = Enumerable.Range(0, n).Select(_ => random.Next(-3, 4) * (random.Next(2) == 0 ? 0.5f : -0f)).ToArray();
            TopKCompressor.OfCount(k).Compress(values, new VectorLayout(n), result);
            using var vector = tensor(values);
            using var indices = DeviceTopK.Select(vector, k);
            indices.data<long>().ToArray().Select(i => (int)i).Should().Equal(result.Indices.ToArray());
        }
    }

    [TestCase(0.02)]
    [TestCase(1e-9)]
    [TestCase(1)]
    public void Steps_are_bit_identical_to_those_of_the_CPU_path(double density)
    {
        random.manual_seed(5);
        using var a = TestModels.WithBatchNorm();
        using var b = TestModels.WithBatchNorm();
        ModelSnapshot.Of(a).CopyTo(b);
        a.eval();
        b.eval();
        using var onDevice = Make(a, new CudaUpdateCompression(density));
        using var onCpu = Make(b, new UpdateCompression(new TopKCompressor(density)));
        foreach (var module in a.modules().Concat(b.modules()).OfType<Dropout>()) module.eval();
        for (var step = 0; step < 100; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, step);
            using var first = onDevice.Step(inputs, targets);
            using var second = onCpu.Step(inputs, targets);
            first.Update!.Coordinates.ToArray().Should().Equal(second.Update!.Coordinates.ToArray());
            first.Update.Values.ToArray().Should().Equal(second.Update.Values.ToArray());
            first.Update.StateDigest.Should().Be(second.Update.StateDigest);
        }
    }

    [Test]
    public void State_saved_and_loaded_continues_bit_identically()
    {
        random.manual_seed(5);
        using var model = TestModels.Mlp();
        var strategy = new CudaUpdateCompression(0.02);
        using var trainer = Make(model, strategy);
        Step(trainer, 0);
        using var stream = new MemoryStream();
        strategy.SaveState(new BinaryWriter(stream));
        Step(trainer, 1);
        var expected = Saved(strategy);

        stream.Position = 0;
        strategy.LoadState(new BinaryReader(stream));
        Saved(strategy).Should().Equal(stream.ToArray()).And.NotEqual(expected);
        strategy.Invoking(s => s.LoadState(new BinaryReader(new MemoryStream(stream.ToArray(), 0, 20)))).Should().Throw<InvalidDataException>();
        strategy.Invoking(s => s.LoadState(new BinaryReader(new MemoryStream(new byte[8])))).Should().Throw<InvalidDataException>();
    }

    [TestCase(0)]
    [TestCase(1.1)]
    [TestCase(double.NaN)]
    public void A_density_out_of_range_is_refused(double density)
    {
        Action make = () => _ = new CudaUpdateCompression(density);
        make.Should().Throw<ArgumentOutOfRangeException>().WithParameterName("density");
    }

    private static ProactiveTrainer Make(Sequential model, IDeploymentStrategy strategy) => new(
        model,
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), 0.01, amsgrad: true),
        new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4 },
        new ProactiveTrainerComponents { Strategy = strategy });

    private static void Step(ProactiveTrainer trainer, int seed)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(4, seed);
        trainer.Step(inputs, targets).Dispose();
    }

    private static byte[] Saved(CudaUpdateCompression strategy)
    {
        using var stream = new MemoryStream();
        strategy.SaveState(new BinaryWriter(stream));
        return stream.ToArray();
    }
}
