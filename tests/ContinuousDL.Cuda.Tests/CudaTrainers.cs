using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Tests;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Trainers with the strategy of CUDA devices, and how they are compared with the CPU's.</summary>
internal static class CudaTrainers
{
    /// <summary>Makes a trainer with TorchSharp's Adam.</summary>
    public static ProactiveTrainer Make(Sequential model, IDeploymentStrategy strategy) => new(
        model,
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), 0.01, amsgrad: true),
        new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4 },
        new ProactiveTrainerComponents { Strategy = strategy });

    /// <summary>Takes a step on four arrivals.</summary>
    public static void Step(ProactiveTrainer trainer, int seed)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(4, seed);
        trainer.Step(inputs, targets).Dispose();
    }

    /// <summary>A strategy's state.</summary>
    public static byte[] Saved(CudaUpdateCompression strategy)
    {
        using var stream = new MemoryStream();
        strategy.SaveState(new BinaryWriter(stream));
        return stream.ToArray();
    }

    /// <summary>The updates with the strategy are, bit for bit, those of the CPU path.</summary>
    public static void CompareSteps(double density, CudaUpdateCompression strategy, int steps)
    {
        manual_seed(5);
        using var a = TestModels.WithBatchNorm();
        using var b = TestModels.WithBatchNorm();
        ModelSnapshot.Of(a).CopyTo(b);
        using var onDevice = Make(a, strategy);
        using var onCpu = Make(b, new UpdateCompression(new TopKCompressor(density)));
        foreach (var module in a.modules().Concat(b.modules()).OfType<Dropout>()) module.eval();
        for (var step = 0; step < steps; step++)
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
}
