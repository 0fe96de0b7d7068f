using ContinuousDL.Benchmarks.Models;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Steps;

/// <summary>Random images and labels of the shape that a model takes: a step costs the same whatever they show.</summary>
internal sealed class TrainingData : IDisposable
{
    /// <summary>The samples of a mini-batch.</summary>
    public const int BatchSize = 128;

    /// <summary>The samples there are.</summary>
    public const int Count = 2048;

    /// <param name="model">The model they are for.</param>
    public TrainingData(BenchmarkModel model)
    {
        Inputs = randn(Count, model.Channels, model.Size, model.Size);
        Targets = randint(0, BenchmarkModel.Classes, Count, dtype: ScalarType.Int64);
    }

    /// <summary>The images, <c>[N, C, H, W]</c>.</summary>
    public Tensor Inputs { get; }

    /// <summary>The labels, <c>[N]</c>.</summary>
    public Tensor Targets { get; }

    /// <inheritdoc />
    public void Dispose()
    {
        Inputs.Dispose();
        Targets.Dispose();
    }
}
