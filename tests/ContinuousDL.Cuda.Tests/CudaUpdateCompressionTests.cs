using ContinuousDL.Compression;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.State;
using ContinuousDL.Tests;
using ContinuousDL.Vectors;
using TorchSharp;
using TorchSharp.Modules;
using static ContinuousDL.Cuda.Tests.CudaTrainers;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

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

    [Test]
    public void Steps_are_bit_identical_to_those_of_the_CPU_path([ValueSource(typeof(CudaTrainers), nameof(Cases))] StrategyCase setup) =>
        CompareSteps(setup, new CudaUpdateCompression(setup.Compressor(), setup.Lookahead), steps: 40);

    [TestCase(0)]
    [TestCase(0.5)]
    public void What_a_forward_pass_does_to_weights_reaches_the_replica(double lookahead)
    {
        torch.random.manual_seed(6);
        using var model = TestModels.Mlp();
        using var loss = nn.CrossEntropyLoss();
        using var optimizer = new FusedAdam(model.parameters(), 0.05);
        using var weight = model.parameters().First().detach();
        using var trainer = new ProactiveTrainer(
            model,
            (inputs, targets) =>
            {
                using Scalar low = -0.1, high = 0.1;
                if (is_grad_enabled()) _ = weight.clamp_(low, high);
                return loss.call(model.call(inputs), targets);
            },
            optimizer,
            new ProactiveTrainerOptions { BatchSize = 8, TriggerSize = 1 },
            new ProactiveTrainerComponents { Strategy = new CudaUpdateCompression(0.1, lookahead) });
        using var replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), trainer.CreateSnapshot());
        for (var step = 0; step < 20; step++)
        {
            var (inputs, targets) = TestModels.Arrivals(8, step);
            using (inputs)
            using (targets)
            {
                using var result = trainer.Step(inputs, targets);
                replica.Apply(result.Update!).Should().BeTrue();
            }
        }

        replica.Verify().Should().BeTrue();
        trainer.CreateSnapshot().StateDigest.Should().Be(replica.Digest);
    }

    [Test]
    public void State_saved_and_loaded_continues_bit_identically()
    {
        torch.random.manual_seed(5);
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

    [TestCase(-0.1)]
    [TestCase(1.1)]
    [TestCase(double.NaN)]
    public void A_look_ahead_out_of_range_is_refused(double lookahead)
    {
        Action make = () => _ = new CudaUpdateCompression(0.1, lookahead);
        make.Should().Throw<ArgumentOutOfRangeException>().WithParameterName("lookahead");
    }

    [Test]
    public void A_compressor_that_does_not_work_on_a_device_is_refused_and_told_which_do()
    {
        foreach (var compressor in new IGradientCompressor[] { new TopKCompressor(0.1, CompressionScope.PerTensor), new SignCompressor(), new NoCompressor(), new QsgdCompressor(4) })
        {
            Action make = () => _ = new CudaUpdateCompression(compressor);
            make.Should().Throw<ArgumentException>().WithParameterName("compressor").WithMessage("*TopKCompressor of the whole model*RandomKCompressor*");
        }

        FluentActions.Invoking(() => new CudaUpdateCompression(null!)).Should().Throw<ArgumentNullException>().WithParameterName("compressor");
    }

    [Test]
    public void A_state_of_another_look_ahead_is_refused()
    {
        using var model = TestModels.Mlp();
        using var other = TestModels.Mlp();
        var strategy = new CudaUpdateCompression(0.1, 0.5);
        var half = new CudaUpdateCompression(0.1, 0.25);
        using var trainer = Make(model, strategy);
        using var another = Make(other, half);
        strategy.Invoking(s => s.LoadState(new BinaryReader(new MemoryStream(Saved(half))))).Should().Throw<InvalidDataException>().WithMessage("*look-ahead 0.25*look-ahead 0.5*");
    }
}
