using ContinuousDL.Benchmarks.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Steps;

/// <summary>An ordinary training loop in plain TorchSharp: the dense step that everything is compared with.</summary>
internal sealed class HandWrittenLoop : ITrainingStep
{
    private readonly nn.Module<Tensor, Tensor> model;
    private readonly CrossEntropyLoss criterion = nn.CrossEntropyLoss();
    private readonly TrainingData data;
    private readonly optim.Optimizer optimizer;

    /// <param name="model">The model to train.</param>
    /// <param name="optimizer">Makes the optimizer of the parameters.</param>
    public HandWrittenLoop(BenchmarkModel model, Func<IEnumerable<Parameter>, optim.Optimizer> optimizer)
    {
        this.model = model.Create();
        this.optimizer = optimizer(this.model.parameters());
        data = new TrainingData(model);
    }

    /// <inheritdoc />
    public void Step()
    {
        using var scope = NewDisposeScope();
        var indices = randint(0, data.Count, TrainingData.BatchSize, dtype: ScalarType.Int64);
        var inputs = data.Inputs.index_select(0, indices);
        var targets = data.Targets.index_select(0, indices);

        optimizer.zero_grad();
        var loss = criterion.call(model.call(inputs), targets);
        if (!float.IsFinite(loss.item<float>())) throw new InvalidOperationException("The loss is not finite.");
        loss.backward();
        optimizer.step();
    }

    /// <inheritdoc />
    public void Dispose()
    {
        optimizer.Dispose();
        criterion.Dispose();
        model.Dispose();
        data.Dispose();
    }
}
