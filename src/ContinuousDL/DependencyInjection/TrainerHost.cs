using System.Diagnostics.Metrics;
using ContinuousDL.Deployment;
using ContinuousDL.Evaluation;
using ContinuousDL.History;
using ContinuousDL.Sampling;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.optim;

namespace ContinuousDL.DependencyInjection;

/// <summary>Makes a trainer out of a container, and owns what belongs to the trainer alone: loss and optimizer.</summary>
internal sealed class TrainerHost<TModule> : IDisposable
    where TModule : nn.Module<Tensor, Tensor>
{
    private readonly nn.Module loss;
    private readonly Optimizer optimizer;

    public TrainerHost(IServiceProvider provider, ContinuousDLBuilder<TModule> builder, TModule model)
    {
        var create = builder.Optimizer ?? throw new InvalidOperationException(
            $"No optimizer was set for the trainer of {typeof(TModule).Name}: call UseOptimizer after AddContinuousDL.");
        var options = provider.GetRequiredService<IOptions<ProactiveTrainerOptions>>().Value;
        var criterion = builder.Loss(provider);
        loss = criterion;
        IDeploymentStrategy? ownStrategy = null;
        try
        {
            optimizer = create(provider, model);
            var strategy = provider.GetService<IDeploymentStrategy>() ?? (ownStrategy = DefaultStrategy(provider, model, options));
            Trainer = new ProactiveTrainer(model, criterion, optimizer, options, new ProactiveTrainerComponents
            {
                History = provider.GetService<ISampleHistory>(),
                Sampler = provider.GetService<ISampler>(),
                Strategy = strategy,
                Evaluator = provider.GetService<IPrequentialEvaluator>(),
                Logger = provider.GetService<ILogger<ProactiveTrainer>>(),
                MeterFactory = provider.GetService<IMeterFactory>(),
            });
        }
        catch
        {
            // A container disposes only of what it has been given.
            ownStrategy?.Dispose();
            optimizer?.Dispose();
            loss.Dispose();
            throw;
        }
    }

    public ProactiveTrainer Trainer { get; }

    private static IDeploymentStrategy? DefaultStrategy(IServiceProvider provider, TModule model, ProactiveTrainerOptions options)
    {
        Parameter[] parameters = [.. model.parameters()];
        return provider.GetServices<IDefaultStrategy>().Select(s => s.Create(parameters, options)).FirstOrDefault(s => s is not null);
    }

    public void Dispose()
    {
        Trainer.Dispose();
        optimizer.Dispose();
        loss.Dispose();
    }
}
