using ContinuousDL;
using ContinuousDL.DependencyInjection;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;
using static TorchSharp.torch;

// Where the framework's own Add... methods are, so that they are found without another using.
namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Registers a proactive trainer with a service collection.</summary>
public static class ContinuousDLServiceCollectionExtensions
{
    /// <summary>
    /// Registers a <see cref="ProactiveTrainer"/> of a model, and the model itself, as singletons. A part that the builder is not told
    /// has the trainer's defaults; logger and meter factory are the container's, where it has them.
    /// </summary>
    /// <example>
    /// <code>
    /// services.AddContinuousDL(_ => new LeNet5(), options => options.Density = 1e-4)
    ///     .UseLoss(_ => nn.CrossEntropyLoss())
    ///     .UseOptimizer((_, model) => new FusedAdam(model.parameters(), 1e-3, amsGrad: true))
    ///     .AddReplica(_ => new LeNet5());
    /// </code>
    /// </example>
    /// <typeparam name="TModule">The type of the model.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="model">Makes the model. The container owns it.</param>
    /// <param name="configure">Sets options. They are validated when the trainer is made, and at the start of a host.</param>
    /// <returns>A builder for the rest.</returns>
    /// <exception cref="InvalidOperationException">A trainer is registered already.</exception>
    public static ContinuousDLBuilder<TModule> AddContinuousDL<TModule>(
        this IServiceCollection services, Func<IServiceProvider, TModule> model, Action<ProactiveTrainerOptions>? configure = null)
        where TModule : nn.Module<Tensor, Tensor>
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(model);
        if (services.Any(s => s.ServiceType == typeof(ProactiveTrainer)))
        {
            throw new InvalidOperationException("A ProactiveTrainer is registered already; a container has one.");
        }

        var options = services.AddOptions<ProactiveTrainerOptions>().ValidateOnStart();
        if (configure is not null) options.Configure(configure);
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<ProactiveTrainerOptions>, ProactiveTrainerOptionsValidator>());
        services.TryAddSingleton(model);
        var builder = new ContinuousDLBuilder<TModule>(services);
        services.TryAddSingleton(builder);
        services.TryAddSingleton<TrainerHost<TModule>>();
        services.TryAddSingleton(provider => provider.GetRequiredService<TrainerHost<TModule>>().Trainer);
        return builder;
    }

    /// <summary>Registers a <see cref="ProactiveTrainer"/> with options from configuration; otherwise as <see cref="AddContinuousDL{TModule}(IServiceCollection, Func{IServiceProvider, TModule}, Action{ProactiveTrainerOptions}?)"/>.</summary>
    /// <typeparam name="TModule">The type of the model.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="model">Makes the model. The container owns it.</param>
    /// <param name="section">The section that has the options, such as <c>configuration.GetSection("ContinuousDL")</c>.</param>
    /// <returns>A builder for the rest.</returns>
    public static ContinuousDLBuilder<TModule> AddContinuousDL<TModule>(
        this IServiceCollection services, Func<IServiceProvider, TModule> model, IConfiguration section)
        where TModule : nn.Module<Tensor, Tensor>
    {
        ArgumentNullException.ThrowIfNull(section);
        var builder = services.AddContinuousDL(model);
        services.AddOptions<ProactiveTrainerOptions>().Bind(section, binder => binder.ErrorOnUnknownConfiguration = true);
        return builder;
    }
}
