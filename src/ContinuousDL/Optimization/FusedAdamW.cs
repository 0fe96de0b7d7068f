using TorchSharp.Modules;

namespace ContinuousDL.Optimization;

/// <summary>Adam with decoupled weight decay (Loshchilov and Hutter 2019), as PyTorch's <c>torch.optim.AdamW</c>.</summary>
public sealed class FusedAdamW : FusedAdam
{
    /// <summary>Makes an optimizer over one group of parameters.</summary>
    /// <param name="parameters">The parameters. They stay the module's own.</param>
    /// <param name="learningRate">The learning rate, at least 0. Default: 1e-3.</param>
    /// <param name="beta1">How much of the gradient's running mean is kept, in [0, 1). Default: 0.9.</param>
    /// <param name="beta2">How much of the squared gradient's running mean is kept, in [0, 1). Default: 0.999.</param>
    /// <param name="epsilon">Added to the denominator, above 0. Default: 1e-8.</param>
    /// <param name="weightDecay">How much the weights decay at a step, times the learning rate; at least 0. Default: 1e-2.</param>
    /// <param name="amsGrad">Divides by the largest squared-gradient mean so far. Default: false.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public FusedAdamW(
        IEnumerable<Parameter> parameters, double learningRate = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double epsilon = 1e-8, double weightDecay = 1e-2, bool amsGrad = false)
        : this([new ParamGroup<FusedAdamOptions>(parameters)], learningRate, beta1, beta2, epsilon, weightDecay, amsGrad)
    {
    }

    /// <summary>Makes an optimizer over several groups of parameters.</summary>
    /// <param name="groups">The groups, each with options of its own or none.</param>
    /// <param name="learningRate">The learning rate of groups that name none, at least 0. Default: 1e-3.</param>
    /// <param name="beta1">Likewise, in [0, 1). Default: 0.9.</param>
    /// <param name="beta2">Likewise, in [0, 1). Default: 0.999.</param>
    /// <param name="epsilon">Likewise, above 0. Default: 1e-8.</param>
    /// <param name="weightDecay">Likewise, at least 0. Default: 1e-2.</param>
    /// <param name="amsGrad">Likewise. Default: false.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public FusedAdamW(
        IEnumerable<ParamGroup<FusedAdamOptions>> groups, double learningRate = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double epsilon = 1e-8, double weightDecay = 1e-2, bool amsGrad = false)
        : base(groups, learningRate, beta1, beta2, epsilon, weightDecay, amsGrad, decoupled: true)
    {
    }
}
