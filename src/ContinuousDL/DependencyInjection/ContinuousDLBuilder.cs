using ContinuousDL.Deployment;
using ContinuousDL.Evaluation;
using ContinuousDL.History;
using ContinuousDL.Parameters;
using ContinuousDL.Replicas;
using ContinuousDL.Sampling;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using static TorchSharp.torch;
using static TorchSharp.torch.optim;

namespace ContinuousDL.DependencyInjection;

/// <summary>Says what a registered <see cref="ProactiveTrainer"/> is made of.</summary>
/// <typeparam name="TModule">The type of the model.</typeparam>
public sealed class ContinuousDLBuilder<TModule>
    where TModule : nn.Module<Tensor, Tensor>
{
    internal ContinuousDLBuilder(IServiceCollection services) => Services = services;

    /// <summary>The services that the trainer is registered with.</summary>
    public IServiceCollection Services { get; }

    internal Func<IServiceProvider, nn.Module<Tensor, Tensor, Tensor>> Loss { get; private set; } = _ => nn.CrossEntropyLoss();

    internal Func<IServiceProvider, TModule, Optimizer>? Optimizer { get; private set; }

    /// <summary>Sets the loss. Default: cross entropy.</summary>
    /// <param name="create">Makes the loss. The container owns it.</param>
    public ContinuousDLBuilder<TModule> UseLoss(Func<IServiceProvider, nn.Module<Tensor, Tensor, Tensor>> create)
    {
        ArgumentNullException.ThrowIfNull(create);
        Loss = create;
        return this;
    }

    /// <summary>Sets the optimizer. There is no default.</summary>
    /// <param name="create">Makes an optimizer over the model's parameters. The container owns it.</param>
    public ContinuousDLBuilder<TModule> UseOptimizer(Func<IServiceProvider, TModule, Optimizer> create)
    {
        ArgumentNullException.ThrowIfNull(create);
        Optimizer = create;
        return this;
    }

    /// <summary>Sets where compression takes place. Default: the trainer's.</summary>
    /// <param name="create">Makes the strategy. The container owns it.</param>
    public ContinuousDLBuilder<TModule> UseStrategy(Func<IServiceProvider, IDeploymentStrategy> create) => Use(create);

    /// <summary>Sets the sampler. Default: the trainer's.</summary>
    /// <param name="create">Makes the sampler. The container owns it.</param>
    public ContinuousDLBuilder<TModule> UseSampler(Func<IServiceProvider, ISampler> create) => Use(create);

    /// <summary>Sets the history. Default: the trainer's.</summary>
    /// <param name="create">Makes the history. The container owns it.</param>
    public ContinuousDLBuilder<TModule> UseHistory(Func<IServiceProvider, ISampleHistory> create) => Use(create);

    /// <summary>Sets the evaluator. Default: the trainer's.</summary>
    /// <param name="create">Makes the evaluator. The container owns it.</param>
    public ContinuousDLBuilder<TModule> UseEvaluator(Func<IServiceProvider, IPrequentialEvaluator> create) => Use(create);

    /// <summary>Registers a <see cref="ModelReplica{TModule}"/> in this process as a singleton, which starts from the trainer's state when it is first asked for.</summary>
    /// <param name="create">Makes a module of the model's architecture; called twice. The replica owns them.</param>
    public ContinuousDLBuilder<TModule> AddReplica(Func<IServiceProvider, TModule> create)
    {
        ArgumentNullException.ThrowIfNull(create);
        Services.TryAddSingleton(provider => new ModelReplica<TModule>(
            () => create(provider), provider.GetRequiredService<ProactiveTrainer>().CreateSnapshot(), provider.GetService<ITensorAccessProvider>()));
        return this;
    }

    private ContinuousDLBuilder<TModule> Use<T>(Func<IServiceProvider, T> create)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(create);
        Services.Replace(ServiceDescriptor.Singleton(create));
        return this;
    }
}
