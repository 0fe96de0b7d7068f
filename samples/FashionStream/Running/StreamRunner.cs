using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Models;
using ContinuousDL.Samples.FashionStream.Output;
using ContinuousDL.Samples.FashionStream.Strategies;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Running;

/// <summary>
/// Replays the stream against one strategy after the other. All start from the same model, which is trained on the initial
/// history once.
/// </summary>
internal sealed class StreamRunner(StreamData data, RunSettings settings, IProgressView view)
{
    private const int EvaluationBatch = 500;

    /// <summary>Runs the strategies.</summary>
    /// <param name="strategies">Which ones, in the order of the result.</param>
    /// <param name="cancellation">Ends the run: what is there by then is the result.</param>
    /// <returns>A result for each strategy; where it was cancelled, for those that were begun.</returns>
    public IReadOnlyList<StrategyResult> Run(IReadOnlyList<Strategy> strategies, CancellationToken cancellation)
    {
        var results = new List<StrategyResult>();
        try
        {
            using var initial = TrainInitialModel(cancellation);
            foreach (var strategy in strategies)
            {
                cancellation.ThrowIfCancellationRequested();
                if (Run(strategy, initial, cancellation) is { } result) results.Add(result);
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
        }

        return results;
    }

    private LeNet5 TrainInitialModel(CancellationToken cancellation)
    {
        const string name = "initial training";
        view.Begin(name, data.InitialCount * settings.Epochs(data.InitialCount));
        var (model, _) = FullTraining.Train(data, data.InitialCount, settings, done => view.Report(new Progress(done)), cancellation);
        view.End(name);
        return model;
    }

    /// <returns>Null where it was cancelled before the first arrival was dealt with.</returns>
    private StrategyResult? Run(Strategy strategy, LeNet5 initial, CancellationToken cancellation)
    {
        view.Begin(strategy.Name, data.StreamCount);
        using var run = StrategyRun.Create(strategy, initial, data, settings);
        var curve = new PrequentialCurve();
        var work = default(Work);
        for (var first = data.InitialCount; first < data.Training.Count && !cancellation.IsCancellationRequested; first += settings.Trigger)
        {
            var (images, labels) = data.Training.Batch(first, Math.Min(settings.Trigger, data.Training.Count - first));
            using (images)
            using (labels)
            {
                Test(run.Serving, images, labels, curve.Add);
                try
                {
                    work += run.Learn(images, labels, cancellation);
                }
                catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
                {
                }
            }

            view.Report(new Progress(curve.Count, curve.Accuracy, work.Bytes));
        }

        if (curve.Count == 0) return null;
        var result = new StrategyResult(
            strategy, curve, TestAccuracy(run.Serving), work, 4 * initial.parameters().Sum(p => p.numel()), IsReplicaIdentical(run), data.StreamCount);
        view.End(strategy.Name);
        return result;
    }

    private double TestAccuracy(nn.Module<Tensor, Tensor> model)
    {
        var curve = new PrequentialCurve();
        ForEachTestBatch((images, labels) => Test(model, images, labels, curve.Add));
        return curve.Accuracy;
    }

    private bool IsReplicaIdentical(IStrategyRun run)
    {
        var identical = true;
        ForEachTestBatch((images, _) => identical &= run.IsReplicaIdentical(images));
        return identical;
    }

    private void ForEachTestBatch(Action<Tensor, Tensor> action)
    {
        for (var first = 0; first < data.Test.Count; first += EvaluationBatch)
        {
            var (images, labels) = data.Test.Batch(first, Math.Min(EvaluationBatch, data.Test.Count - first));
            using (images)
            using (labels)
                action(images, labels);
        }
    }

    private static void Test(nn.Module<Tensor, Tensor> model, Tensor images, Tensor labels, Action<bool> outcome)
    {
        using var scope = NewDisposeScope();
        using var gradients = no_grad();
        model.eval();
        foreach (var correct in model.forward(images).argmax(1).eq(labels).data<bool>()) outcome(correct);
    }
}
