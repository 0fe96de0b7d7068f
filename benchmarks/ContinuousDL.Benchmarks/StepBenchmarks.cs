using BenchmarkDotNet.Attributes;
using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Benchmarks.Steps;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;

namespace ContinuousDL.Benchmarks;

/// <summary>Whole training steps, dense and sparse, with the same model and a batch of 128 images.</summary>
[Config(typeof(BenchmarkConfig.Steps))]
public class StepBenchmarks
{
    private ITrainingStep step = null!;

    /// <summary>The models.</summary>
    public static IEnumerable<BenchmarkModel> Models => BenchmarkModel.All;

    /// <summary>Which model is trained.</summary>
    [ParamsSource(nameof(Models))]
    public BenchmarkModel Model { get; set; } = null!;

    /// <summary>With which optimizer.</summary>
    [ParamsAllValues]
    public OptimizerKind Optimizer { get; set; }

    /// <summary>The share of the coordinates that a sparse step changes.</summary>
    [Params(1e-3)]
    public double Density { get; set; }

    /// <summary>Sets up a loop with TorchSharp's optimizer.</summary>
    [GlobalSetup(Target = nameof(DenseTorchSharp))]
    public void SetupDenseTorchSharp() => step = new HandWrittenLoop(Model, p => Optimizers.TorchSharp(Optimizer, p));

    /// <summary>Sets up a loop with the fused optimizer.</summary>
    [GlobalSetup(Target = nameof(DenseFused))]
    public void SetupDenseFused() => step = new HandWrittenLoop(Model, p => Optimizers.Fused(Optimizer, p));

    /// <summary>Sets up a trainer that deploys the whole model.</summary>
    [GlobalSetup(Target = nameof(DenseFusedDeployedWhole))]
    public void SetupDenseFusedDeployedWhole() => SetupTrainer(new DenseDeployment());

    /// <summary>Sets up a trainer with its default strategy.</summary>
    [GlobalSetup(Target = nameof(SparseDefault))]
    public void SetupSparseDefault() => SetupTrainer(null);

    /// <summary>Sets up a trainer that compresses updates.</summary>
    [GlobalSetup(Target = nameof(SparseUpdate))]
    public void SetupSparseUpdate() => SetupTrainer(new UpdateCompression(new TopKCompressor(Density)));

    /// <summary>Sets up a trainer that compresses gradients.</summary>
    [GlobalSetup(Target = nameof(SparseGradient))]
    public void SetupSparseGradient() => SetupTrainer(new GradientCompression(new TopKCompressor(Density)));

    /// <summary>Sets up a trainer that deploys the largest differences.</summary>
    [GlobalSetup(Target = nameof(SparseDifference))]
    public void SetupSparseDifference() => SetupTrainer(new ReplicaDifference(new TopKCompressor(Density)));

    /// <summary>The loop by hand, with TorchSharp's optimizer; nothing is deployed.</summary>
    [Benchmark(Baseline = true)]
    public void DenseTorchSharp() => step.Step();

    /// <summary>The loop by hand, with this library's optimizer; nothing is deployed.</summary>
    [Benchmark]
    public void DenseFused() => step.Step();

    /// <summary>A trainer's step with this library's optimizer, the whole model deployed.</summary>
    [Benchmark]
    public void DenseFusedDeployedWhole() => step.Step();

    /// <summary>A sparse step as a trainer takes it by default: the update compressed, with look-ahead.</summary>
    [Benchmark]
    public void SparseDefault() => step.Step();

    /// <summary>A sparse step, the update compressed, without look-ahead.</summary>
    [Benchmark]
    public void SparseUpdate() => step.Step();

    /// <summary>A sparse step, the gradient compressed.</summary>
    [Benchmark]
    public void SparseGradient() => step.Step();

    /// <summary>A sparse step, the difference to the replica compressed.</summary>
    [Benchmark]
    public void SparseDifference() => step.Step();

    /// <summary>Frees the memory.</summary>
    [GlobalCleanup]
    public void Cleanup() => step.Dispose();

    private void SetupTrainer(IDeploymentStrategy? strategy) =>
        step = new TrainerStep(Model, p => Optimizers.Fused(Optimizer, p), strategy, Density);
}
