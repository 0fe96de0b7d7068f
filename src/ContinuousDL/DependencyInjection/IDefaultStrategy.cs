using ContinuousDL.Deployment;
using TorchSharp.Modules;

namespace ContinuousDL.DependencyInjection;

/// <summary>
/// A package's strategy for trainers that were given none: registered as a service, asked when the container makes a trainer.
/// </summary>
public interface IDefaultStrategy
{
    /// <summary>Makes a strategy, if this is the one for the parameters.</summary>
    /// <param name="parameters">The model's parameters. They stay the model's.</param>
    /// <param name="options">The trainer's options.</param>
    /// <returns>The strategy, which is the trainer's; null: the trainer's own default does.</returns>
    IDeploymentStrategy? Create(IReadOnlyList<Parameter> parameters, ProactiveTrainerOptions options);
}
