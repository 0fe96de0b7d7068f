using System.Diagnostics.Metrics;
using ContinuousDL.Deployment;
using ContinuousDL.Evaluation;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Sampling;
using Microsoft.Extensions.Logging;

namespace ContinuousDL;

/// <summary>The replaceable parts of a <see cref="ProactiveTrainer"/>. Each that is left out gets its default.</summary>
/// <remarks>The trainer takes over history, strategy and update rule: it disposes them with itself.</remarks>
public sealed class ProactiveTrainerComponents
{
    /// <summary>Keeps the samples. <value>Default: an <see cref="InMemorySampleHistory"/> without a capacity.</value></summary>
    public ISampleHistory? History { get; init; }

    /// <summary>Picks the samples of a mini-batch. <value>Default: a <see cref="UniformSampler"/> that always includes the new samples.</value></summary>
    public ISampler? Sampler { get; init; }

    /// <summary>
    /// Where compression takes place. <value>Default: <see cref="UpdateCompression"/> with an exact top-k of the whole model at
    /// <see cref="ProactiveTrainerOptions.Density"/>, error feedback, and the look-ahead that suits the density.</value>
    /// </summary>
    public IDeploymentStrategy? Strategy { get; init; }

    /// <summary>
    /// The rule that computes the updates. <value>Default: the optimizer itself where it is an <see cref="IUpdateRule"/> (<see cref="FusedSgd"/>,
    /// <see cref="FusedAdam"/>, <see cref="FusedAdamW"/>), otherwise a <see cref="TorchOptimizerRule"/> around it.</value>
    /// </summary>
    public IUpdateRule? UpdateRule { get; init; }

    /// <summary>Measures the deployed model on the arrivals. <value>Default: a <see cref="LossEvaluator"/>.</value></summary>
    public IPrequentialEvaluator? Evaluator { get; init; }

    /// <summary>The logger of the trainer. <value>Default: none.</value></summary>
    public ILogger<ProactiveTrainer>? Logger { get; init; }

    /// <summary>Makes the meter. <value>Default: a meter of its own, named <c>ContinuousDL</c>.</value></summary>
    public IMeterFactory? MeterFactory { get; init; }
}
