using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Deployment;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Steps;

/// <summary>Forward and backward pass on one batch, nothing else: what every step has to pay.</summary>
internal sealed class ForwardBackward : ITrainingStep
{
    private readonly nn.Module<Tensor, Tensor> model;
    private readonly CrossEntropyLoss criterion = nn.CrossEntropyLoss();
    private readonly TrainingData data;

    /// <param name="model">The model to pass through.</param>
    public ForwardBackward(BenchmarkModel model)
    {
        this.model = model.Create();
        data = new TrainingData(model, TrainingData.BatchSize);
    }

    /// <inheritdoc />
    public void Step()
    {
        using var scope = NewDisposeScope();
        var loss = criterion.call(model.call(data.Inputs), data.Targets);
        loss.backward();
    }

    /// <summary>Frees the gradients.</summary>
    public void ReleaseGradients() => model.zero_grad();

    /// <summary>Trains the same model on the same data from now on.</summary>
    /// <param name="optimizer">Makes the optimizer of the parameters.</param>
    /// <param name="strategy">Where compression takes place; null for the trainer's default.</param>
    /// <param name="density">The density that the trainer's default strategy is made with.</param>
    /// <returns>The trainer's step, to be disposed before this.</returns>
    public TrainerStep Continue(Func<IEnumerable<Parameter>, optim.Optimizer> optimizer, IDeploymentStrategy? strategy, double density) =>
        new(model, data, optimizer, strategy, density);

    /// <inheritdoc />
    public void Dispose()
    {
        criterion.Dispose();
        model.Dispose();
        data.Dispose();
    }
}
