using ContinuousDL.Optimization;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>What all strategies share, so that only the strategy makes the difference.</summary>
internal static class Training
{
    /// <summary>Samples in a mini-batch.</summary>
    public const int BatchSize = 128;

    /// <summary>Adam's learning rate.</summary>
    private const double LearningRate = 1e-3;

    /// <summary>Adam with AMSGrad. The caller owns it.</summary>
    public static FusedAdam CreateOptimizer(nn.Module model) => new(model.parameters(), LearningRate, amsGrad: true);

    /// <summary>One ordinary step: forward, backward, optimizer.</summary>
    public static void Step(nn.Module<Tensor, Tensor> model, optim.Optimizer optimizer, Tensor images, Tensor labels)
    {
        using var scope = NewDisposeScope();
        optimizer.zero_grad();
        nn.functional.cross_entropy(model.call(images), labels).backward();
        optimizer.step();
    }
}
