using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Deployment;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Steps;

/// <summary>A step of <see cref="ProactiveTrainer"/>, the update disposed as if it had been sent.</summary>
internal sealed class TrainerStep : ITrainingStep
{
    private readonly nn.Module<Tensor, Tensor>? own;
    private readonly CrossEntropyLoss criterion = nn.CrossEntropyLoss();
    private readonly optim.Optimizer optimizer;

    /// <summary>Trains a new model on new data.</summary>
    /// <param name="model">The model to train.</param>
    /// <param name="optimizer">Makes the optimizer of the parameters.</param>
    /// <param name="strategy">Where compression takes place; null for the trainer's default.</param>
    /// <param name="density">The density that the trainer's default strategy is made with. Default: 1e-3.</param>
    public TrainerStep(
        BenchmarkModel model,
        Func<IEnumerable<Parameter>, optim.Optimizer> optimizer,
        IDeploymentStrategy? strategy,
        double density = 1e-3)
    {
        own = model.Create();
        using var data = new TrainingData(model);
        (this.optimizer, Trainer) = Start(own, data, optimizer, strategy, density);
    }

    /// <summary>Trains a model on data that both stay the caller's.</summary>
    /// <param name="model">The model to train.</param>
    /// <param name="data">The samples, which are copied.</param>
    /// <param name="optimizer">Makes the optimizer of the parameters.</param>
    /// <param name="strategy">Where compression takes place; null for the trainer's default.</param>
    /// <param name="density">The density that the trainer's default strategy is made with.</param>
    public TrainerStep(
        nn.Module<Tensor, Tensor> model,
        TrainingData data,
        Func<IEnumerable<Parameter>, optim.Optimizer> optimizer,
        IDeploymentStrategy? strategy,
        double density)
    {
        (this.optimizer, Trainer) = Start(model, data, optimizer, strategy, density);
    }

    /// <summary>The trainer.</summary>
    public ProactiveTrainer Trainer { get; }

    /// <inheritdoc />
    public void Step() => Trainer.Step().Dispose();

    /// <inheritdoc />
    public void Dispose()
    {
        Trainer.Dispose();
        optimizer.Dispose();
        criterion.Dispose();
        own?.Dispose();
    }

    private (optim.Optimizer Optimizer, ProactiveTrainer Trainer) Start(
        nn.Module<Tensor, Tensor> model,
        TrainingData data,
        Func<IEnumerable<Parameter>, optim.Optimizer> makeOptimizer,
        IDeploymentStrategy? strategy,
        double density)
    {
        var made = makeOptimizer(model.parameters());
        var started = new ProactiveTrainer(
            model,
            criterion,
            made,
            new ProactiveTrainerOptions { BatchSize = TrainingData.BatchSize, Density = density },
            new ProactiveTrainerComponents { Strategy = strategy });
        started.AddHistory(data.Inputs, data.Targets);
        return (made, started);
    }
}
