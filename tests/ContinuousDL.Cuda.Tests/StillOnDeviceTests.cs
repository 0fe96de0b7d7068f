using ContinuousDL.Compression;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Deployment;
using ContinuousDL.Failures;
using ContinuousDL.Replication.Updates;
using ContinuousDL.State;
using ContinuousDL.Tests;
using ContinuousDL.Vectors;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>On a device, too, what has no gradient stays still, and nothing that is not finite is owed without a word.</summary>
public class StillOnDeviceTests
{
    [Test]
    public void Freezing_a_layer_and_training_it_again_is_bit_for_bit_what_the_CPU_path_does(
        [ValueSource(typeof(CudaTrainers), nameof(CudaTrainers.Cases))] StrategyCase setup, [Values] OwedWhenFrozen owed, [Values] bool kernels)
    {
        using var queue = new AcceleratorQueue(8, 2);
        manual_seed(5);
        using var a = TestModels.Mlp(setup.DType);
        using var b = TestModels.Mlp(setup.DType);
        ModelSnapshot.Of(a).CopyTo(b);
        var strategy = kernels ? Strategy(queue, setup.Compressor(), setup.Lookahead) : new CudaUpdateCompression(setup.Compressor(), setup.Lookahead);
        using var onDevice = Make(a, strategy, owed);
        using var onCpu = Make(b, new UpdateCompression(setup.Compressor(), lookahead: setup.Lookahead), owed);
        for (var step = 0; step < 30; step++)
        {
            if (step is 6 or 20) Freeze(step == 6, a, b);
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, step, setup.DType);
            using var first = onDevice.Step(inputs, targets);
            using var second = onCpu.Step(inputs, targets);
            first.Update!.Coordinates.ToArray().Should().Equal(second.Update!.Coordinates.ToArray());
            first.Update.Values.ToArray().Should().Equal(second.Update.Values.ToArray());
            first.Update.StateDigest.Should().Be(second.Update.StateDigest);
            TestModels.State(a).Should().Equal(TestModels.State(b));
            var hidden = onDevice.Deployed.Layout.Entries.Where(e => e.Name.StartsWith("hidden", StringComparison.Ordinal)).Max(e => e.End);
            if (step is >= 6 and < 20) first.Update.Coordinates.ToArray().Should().NotContain(c => c < hidden);
        }
    }

    [Test]
    public void What_waits_is_part_of_the_saved_state()
    {
        using var queue = new AcceleratorQueue(8, 2);
        manual_seed(5);
        using var model = TestModels.Mlp();
        var strategy = Strategy(queue, new TopKCompressor(0.02), 0.5);
        using var trainer = Make(model, strategy, OwedWhenFrozen.Wait);
        for (var step = 0; step < 4; step++) CudaTrainers.Step(trainer, step);
        Freeze(true, model);
        CudaTrainers.Step(trainer, 4);
        var saved = CudaTrainers.Saved(strategy);
        strategy.LoadState(new BinaryReader(new MemoryStream(saved)));
        CudaTrainers.Saved(strategy).Should().Equal(saved);
        CudaTrainers.Step(trainer, 5);
        Freeze(false, model);
        CudaTrainers.Step(trainer, 6);
        trainer.CreateSnapshot().StateDigest.Should().Be(trainer.Deployed.Digest);
    }

    [Test]
    public void What_is_owed_and_not_finite_is_found_although_it_is_not_drawn([Values] bool kernels, [Values(0, 0.5)] double lookahead)
    {
        using var queue = new AcceleratorQueue(8, 2);
        using var model = TestModels.Mlp();
        var compressor = RandomKCompressor.OfCount(1);
        using var trainer = new ProactiveTrainer(
            model,
            nn.CrossEntropyLoss(),
            optim.SGD(model.parameters(), 1e38),
            new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4 },
            new ProactiveTrainerComponents { Strategy = kernels ? Strategy(queue, compressor, lookahead) : new CudaUpdateCompression(compressor, lookahead) });
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(16, 1);
        var digest = trainer.Deployed.Digest;
        using Scalar much = 1e10;
        var large = inputs.mul(much);
        trainer.Invoking(t => t.Step(large, targets)).Should().Throw<NonFiniteException>().Where(e => e.ParameterName != null);
        trainer.Deployed.Digest.Should().Be(digest);
        trainer.Deployed.Sequence.Should().Be(0);
    }

    private static CudaUpdateCompression Strategy(IKernelQueue queue, IGradientCompressor compressor, double lookahead) =>
        new(compressor, lookahead, null, (Device _, out string? problem) =>
        {
            problem = null;
            return queue;
        });

    private static ProactiveTrainer Make(Sequential model, IDeploymentStrategy strategy, OwedWhenFrozen owed) => new(
        model,
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), 0.1, momentum: 0.9),
        new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4, OwedWhenFrozen = owed },
        new ProactiveTrainerComponents { Strategy = strategy });

    private static void Freeze(bool frozen, params Sequential[] models)
    {
        foreach (var (name, parameter) in models.SelectMany(m => m.named_parameters()))
        {
            if (name.StartsWith("hidden", StringComparison.Ordinal)) parameter.requires_grad = !frozen;
        }
    }
}
