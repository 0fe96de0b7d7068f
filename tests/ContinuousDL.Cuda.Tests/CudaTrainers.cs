using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.History;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.State;
using ContinuousDL.Tests;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Trainers with the strategy of CUDA devices, and how they are compared with the CPU's.</summary>
internal static class CudaTrainers
{
    /// <summary>What a strategy for CUDA devices is compared on with the CPU's.</summary>
    public static IReadOnlyList<StrategyCase> Cases { get; } =
    [
        new("top-k", () => new TopKCompressor(0.02)),
        new("top-k of one", () => new TopKCompressor(1e-9), 1),
        new("everything", () => new TopKCompressor(1), 0.5),
        new("top-k with look-ahead", () => new TopKCompressor(0.02), 0.5),
        new("top-k, sometimes of none", () => new TopKCompressor(0.002, rounding: SmallCountRounding.Probabilistic, seed: 4), 0.3),
        new("top-k of count in bfloat16", () => TopKCompressor.OfCount(7), 0.5, ScalarType.BFloat16),
        new("top-k in bfloat16", () => new TopKCompressor(0.05), 0, ScalarType.BFloat16),
        new("top-k in float16", () => new TopKCompressor(0.05), 1, ScalarType.Float16),
        new("top-k in float64", () => new TopKCompressor(0.05), 0.5, ScalarType.Float64),
        new("random-k", () => new RandomKCompressor(0.02, seed: 3)),
        new("random-k with look-ahead", () => new RandomKCompressor(0.05, seed: 3), 0.5),
        new("random-k, unbiased, of each tensor", () => new RandomKCompressor(0.01, true, CompressionScope.PerTensor, SmallCountRounding.Probabilistic, 5), 0.1),
        new("random-k in float16", () => RandomKCompressor.OfCount(9), 0.5, ScalarType.Float16),
    ];

    /// <summary>Makes a trainer with TorchSharp's Adam, or momentum where Adam's numbers are too small.</summary>
    public static ProactiveTrainer Make(
        Sequential model, IDeploymentStrategy strategy, DeployedValuePrecision precision = DeployedValuePrecision.Float32) => new(
        model,
        nn.CrossEntropyLoss(),
        OptimizerOf(model),
        new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4, DeployedValuePrecision = precision },
        new ProactiveTrainerComponents { Strategy = strategy });

    /// <summary>Takes a step on four arrivals.</summary>
    public static void Step(ProactiveTrainer trainer, int seed, ScalarType dtype = ScalarType.Float32)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(4, seed, dtype);
        trainer.Step(inputs, targets).Dispose();
    }

    /// <summary>A strategy's state.</summary>
    public static byte[] Saved(CudaUpdateCompression strategy)
    {
        using var stream = new MemoryStream();
        strategy.SaveState(new BinaryWriter(stream));
        return stream.ToArray();
    }

    /// <summary>Updates and trained weights with the strategy are, bit for bit, those of the CPU path; after going back to an older state, too.</summary>
    public static void CompareSteps(StrategyCase setup, CudaUpdateCompression strategy, int steps)
    {
        using var a = ModelOf(setup);
        using var b = ModelOf(setup);
        ModelSnapshot.Of(a).CopyTo(b);
        using var onDevice = Make(a, strategy);
        using var onCpu = Make(b, new UpdateCompression(setup.Compressor(), lookahead: setup.Lookahead));
        var first = onCpu.CreateSnapshot();
        for (var step = 0; step < steps; step++)
        {
            Compare(onDevice, onCpu, a, b, setup.DType, step);
            if (step != steps / 2) continue;
            onDevice.RollBackTo(first).Dispose();
            onCpu.RollBackTo(first).Dispose();
        }
    }

    /// <summary>A trainer that is restored from a checkpoint goes on, bit for bit, as the one that was saved.</summary>
    public static void CompareRestored(StrategyCase setup, Func<CudaUpdateCompression> make)
    {
        var path = Path.Combine(TestContext.CurrentContext.WorkDirectory, $"{Guid.NewGuid():n}.checkpoint");
        using var a = ModelOf(setup);
        using var b = ModelOf(setup);
        using var original = Make(a, make());
        for (var step = 0; step < 3; step++) Step(original, step, setup.DType);
        try
        {
            original.SaveCheckpoint(path);
            var history = new InMemorySampleHistory();
            for (var step = 0; step < 3; step++)
            {
                using var scope = NewDisposeScope();
                var (inputs, targets) = TestModels.Arrivals(4, step, setup.DType);
                history.Append(inputs, targets);
            }

            using var restored = ProactiveTrainer.Restore(
                path,
                b,
                nn.CrossEntropyLoss(),
                OptimizerOf(b),
                new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4 },
                new ProactiveTrainerComponents { Strategy = make(), History = history });
            for (var step = 3; step < 7; step++) Compare(restored, original, b, a, setup.DType, step);
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static optim.Optimizer OptimizerOf(Sequential model) => model.parameters().First().dtype is ScalarType.Float32 or ScalarType.Float64
        ? optim.Adam(model.parameters(), 0.01, amsgrad: true)
        : optim.SGD(model.parameters(), 0.1, momentum: 0.9);

    private static Sequential ModelOf(StrategyCase setup)
    {
        manual_seed(5);
        if (setup.DType != ScalarType.Float32) return TestModels.Mlp(setup.DType);
        var model = TestModels.WithBatchNorm();
        foreach (var module in model.modules().OfType<Dropout>()) module.eval();
        return model;
    }

    private static void Compare(ProactiveTrainer actual, ProactiveTrainer expected, nn.Module actualModel, nn.Module expectedModel, ScalarType dtype, int step)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(4, step, dtype);
        using var first = actual.Step(inputs, targets);
        using var second = expected.Step(inputs, targets);
        first.Update!.Coordinates.ToArray().Should().Equal(second.Update!.Coordinates.ToArray());
        first.Update.Values.ToArray().Should().Equal(second.Update.Values.ToArray());
        first.Update.StateDigest.Should().Be(second.Update.StateDigest);
        TestModels.State(actualModel).Should().Equal(TestModels.State(expectedModel));
    }
}

/// <summary>A compressor, how far it is looked ahead, and what is trained.</summary>
public sealed record StrategyCase(string Name, Func<IGradientCompressor> Compressor, double Lookahead = 0, ScalarType DType = ScalarType.Float32)
{
    public override string ToString() => Name;
}
