using ContinuousDL.Benchmarks.Models;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Steps;

/// <summary>Random images and labels of the shape that a model takes: a step costs the same whatever they show.</summary>
internal sealed class TrainingData : IDisposable
{
    /// <summary>The samples of a mini-batch.</summary>
    public const int BatchSize = 128;

    /// <param name="model">The model they are for.</param>
    /// <param name="count">How many samples there are. Default: 2,048.</param>
    public TrainingData(BenchmarkModel model, int count = 2048)
    {
        Count = count;
        Inputs = randn(count, model.Channels, model.Size, model.Size);
        Targets = randint(0, BenchmarkModel.Classes, count, dtype: ScalarType.Int64);
    }

    /// <summary>How many samples there are.</summary>
    public int Count { get; }

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
