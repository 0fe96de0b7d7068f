using ContinuousDL.Replicas;
using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Output;
using ContinuousDL.Samples.FashionStream.Strategies;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Running;

/// <summary>
/// Replays the stream against strategies, several at the same time. All start from the same model, which is trained on the
/// initial history once.
/// </summary>
/// <remarks>
/// Each strategy computes on one thread. A model as small as LeNet-5 gains little from more, and so the result depends neither
/// on the number of cores nor on what else they are doing.
/// </remarks>
/// <param name="data">The data.</param>
/// <param name="settings">What decides the numbers.</param>
/// <param name="parallelism">How many strategies run at the same time, at least 1.</param>
/// <param name="view">Is shown how it is getting on.</param>
internal sealed class StreamRunner(StreamData data, RunSettings settings, int parallelism, IProgressView view)
{
    private const int EvaluationBatch = 500;

    /// <summary>Runs the strategies.</summary>
    /// <param name="strategies">Which ones, in the order of the result.</param>
    /// <param name="cancellation">Ends the run: what is there by then is the result.</param>
    /// <returns>A result for each strategy; where it was cancelled, for those that were begun.</returns>
    public IReadOnlyList<StrategyResult> Run(IReadOnlyList<Strategy> strategies, CancellationToken cancellation)
    {
        try
        {
            set_num_threads(1);
            using var initial = TrainInitialModel(cancellation);
            var results = new StrategyResult?[strategies.Count];
            var next = -1;
            Parallel.For(0, Math.Min(parallelism, strategies.Count), _ =>
            {
                set_num_threads(1);
                for (int i; !cancellation.IsCancellationRequested && (i = Interlocked.Increment(ref next)) < strategies.Count;)
                    results[i] = Run(strategies[i], initial, cancellation);
            });
            return [.. results.OfType<StrategyResult>()];
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return [];
        }
    }

    private TrainedModel TrainInitialModel(CancellationToken cancellation)
    {
        var task = view.Begin("initial training", data.InitialCount * settings.Epochs(data.InitialCount));
        var trained = FullTraining.Train(data, data.InitialCount, settings, done => task.Report(new Progress(done)), cancellation);
        task.End();
        return trained;
    }

    /// <returns>Null where it was cancelled before the first arrival was dealt with.</returns>
    private StrategyResult? Run(Strategy strategy, TrainedModel initial, CancellationToken cancellation)
    {
        var task = view.Begin(strategy.Name, data.StreamCount);
        using var run = StrategyRun.Create(strategy, initial, data, settings);
        var curve = new PrequentialCurve();
        var work = default(Work);
        for (var first = data.InitialCount; first < data.Training.Count && !cancellation.IsCancellationRequested; first += settings.Trigger)
        {
            var (images, labels) = data.Training.Batch(first, Math.Min(settings.Trigger, data.Training.Count - first));
            using (images)
            using (labels)
            {
                Test(run, images, labels, curve).Dispose();
                try
                {
                    work += run.Learn(images, labels, cancellation);
                }
                catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
                {
                }
            }

            task.Report(new Progress(curve.Count, curve.Accuracy, work.Bytes));
        }

        if (curve.Count == 0) return null;
        var (testAccuracy, outputsIdentical) = TestAtTheEnd(run);
        var modelBytes = sizeof(float) * initial.Model.parameters().Sum(parameter => parameter.numel());
        task.End();
        return new StrategyResult(
            strategy, curve, testAccuracy, work, modelBytes, outputsIdentical && run.IsDigestIdentical(), data.StreamCount);
    }

    /// <summary>The replica's accuracy on the test samples, and whether its outputs are the trainer's to the last bit.</summary>
    private (double Accuracy, bool OutputsIdentical) TestAtTheEnd(IStrategyRun run)
    {
        var curve = new PrequentialCurve();
        var identical = true;
        for (var first = 0; first < data.Test.Count; first += EvaluationBatch)
        {
            var (images, labels) = data.Test.Batch(first, Math.Min(EvaluationBatch, data.Test.Count - first));
            using var scope = NewDisposeScope();
            using (images)
            using (labels)
            {
                var outputs = Test(run, images, labels, curve);
                identical &= outputs.bytes.SequenceEqual(run.PredictAsTrainer(images).bytes);
            }
        }

        return (curve.Accuracy, identical);
    }

    /// <returns>The replica's outputs, which the caller owns.</returns>
    private static Tensor Test(IStrategyRun run, Tensor images, Tensor labels, PrequentialCurve curve)
    {
        var outputs = run.Predict(images);
        using var predicted = outputs.argmax(1);
        using var correct = predicted.eq(labels);
        foreach (var isCorrect in correct.data<bool>()) curve.Add(isCorrect);
        return outputs;
    }
}
