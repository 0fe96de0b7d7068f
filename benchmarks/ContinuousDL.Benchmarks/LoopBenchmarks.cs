using BenchmarkDotNet.Attributes;
using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Benchmarks.Steps;
using ContinuousDL.Deployment;

namespace ContinuousDL.Benchmarks;

/// <summary>What <see cref="ProactiveTrainer.Step()"/> costs beside the training itself: a dense step against the same loop written by hand, both with TorchSharp's optimizer.</summary>
[Config(typeof(BenchmarkConfig.Steps))]
public class LoopBenchmarks
{
    private ITrainingStep step = null!;

    /// <summary>The models: one so small that everything else shows, one of ordinary size.</summary>
    public static IEnumerable<BenchmarkModel> Models => [BenchmarkModel.Named("LeNet-5"), BenchmarkModel.Named("MobileNetV2")];

    /// <summary>Which model is trained.</summary>
    [ParamsSource(nameof(Models))]
    public BenchmarkModel Model { get; set; } = null!;

    /// <summary>With which optimizer.</summary>
    [ParamsAllValues]
    public OptimizerKind Optimizer { get; set; }

    /// <summary>Sets up the loop.</summary>
    [GlobalSetup(Target = nameof(ByHand))]
    public void SetupByHand() => step = new HandWrittenLoop(Model, p => Optimizers.TorchSharp(Optimizer, p));

    /// <summary>Sets up the trainer.</summary>
    [GlobalSetup(Target = nameof(Trainer))]
    public void SetupTrainer() => step = new TrainerStep(Model, p => Optimizers.TorchSharp(Optimizer, p), new DenseDeployment());

    /// <summary>The loop by hand.</summary>
    [Benchmark(Baseline = true)]
    public void ByHand() => step.Step();

    /// <summary>The trainer's step in dense mode.</summary>
    [Benchmark]
    public void Trainer() => step.Step();

    /// <summary>Frees the memory.</summary>
    [GlobalCleanup]
    public void Cleanup() => step.Dispose();
}
