using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>What all strategies share, so that only the strategy makes the difference.</summary>
internal static class Training
{
    /// <summary>Samples in a mini-batch.</summary>
    public const int BatchSize = 128;

    /// <summary>Adam's learning rate.</summary>
    public const double LearningRate = 1e-3;

    /// <summary>Adam with AMSGrad. The caller owns it.</summary>
    public static optim.Optimizer CreateAdam(nn.Module model) => optim.Adam(model.parameters(), LearningRate, amsgrad: true);

    /// <summary>One ordinary step: forward, backward, optimizer.</summary>
    public static void Step(nn.Module<Tensor, Tensor> model, optim.Optimizer optimizer, Tensor images, Tensor labels)
    {
        using var scope = NewDisposeScope();
        model.train();
        optimizer.zero_grad();
        var loss = nn.functional.cross_entropy(model.forward(images), labels);
        loss.backward();
        optimizer.step();
    }
}
