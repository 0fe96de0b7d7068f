using TorchSharp.Modules;

namespace ContinuousDL.Optimization;

/// <summary>The options of one parameter group of <see cref="FusedAdam"/>. One that is left out is the optimizer's.</summary>
public sealed class FusedAdamOptions : OptimizerOptions
{
    /// <summary>How much of the gradient's running mean is kept at a step. <value>0.9.</value></summary>
    public double? Beta1 { get; set; }

    /// <summary>How much of the squared gradient's running mean is kept at a step. <value>0.999.</value></summary>
    public double? Beta2 { get; set; }

    /// <summary>Added to the denominator. <value>1e-8.</value></summary>
    public double? Epsilon { get; set; }

    /// <summary>The strength of weight decay: an L2 penalty, or decoupled where <see cref="DecoupledWeightDecay"/> says so. <value>0.</value></summary>
    public double? WeightDecay { get; set; }

    /// <summary>Decays the weights themselves instead of adding to the gradient: AdamW. <value>False.</value></summary>
    public bool? DecoupledWeightDecay { get; set; }

    /// <summary>Divides by the largest squared-gradient mean so far, instead of the current one. <value>False.</value></summary>
    public bool? AmsGrad { get; set; }
}
