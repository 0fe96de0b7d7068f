using TorchSharp.Modules;

namespace ContinuousDL.Optimization;

/// <summary>The options of one parameter group of <see cref="FusedSgd"/>. One that is left out is the optimizer's.</summary>
public sealed class FusedSgdOptions : OptimizerOptions
{
    /// <summary>How much of the last steps' direction is kept. <value>0: plain gradient descent.</value></summary>
    public double? Momentum { get; set; }

    /// <summary>How much less than fully a gradient enters the momentum. <value>0.</value></summary>
    public double? Dampening { get; set; }

    /// <summary>L2 penalty: this times the weight is added to the gradient. <value>0.</value></summary>
    public double? WeightDecay { get; set; }

    /// <summary>Looks one step of momentum ahead. Needs momentum, and no dampening. <value>False.</value></summary>
    public bool? Nesterov { get; set; }
}
