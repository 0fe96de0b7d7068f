using ContinuousDL.Optimization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Steps;

/// <summary>The optimizers that steps are measured with.</summary>
public enum OptimizerKind
{
    /// <summary>Adam with AMSGrad, learning rate 1e-3.</summary>
    AdamAmsGrad,

    /// <summary>SGD with momentum 0.9, learning rate 0.01.</summary>
    SgdMomentum,
}

/// <summary>Makes the optimizers of a kind.</summary>
internal static class Optimizers
{
    private const double AdamRate = 1e-3;
    private const double SgdRate = 0.01;
    private const double Momentum = 0.9;

    /// <summary>TorchSharp's own.</summary>
    public static optim.Optimizer TorchSharp(OptimizerKind kind, IEnumerable<Parameter> parameters) => kind == OptimizerKind.AdamAmsGrad
        ? optim.Adam(parameters, AdamRate, amsgrad: true)
        : optim.SGD(parameters, SgdRate, Momentum);

    /// <summary>This library's.</summary>
    public static FusedOptimizer Fused(OptimizerKind kind, IEnumerable<Parameter> parameters) => kind == OptimizerKind.AdamAmsGrad
        ? new FusedAdam(parameters, AdamRate, amsGrad: true)
        : new FusedSgd(parameters, SgdRate, Momentum);
}
