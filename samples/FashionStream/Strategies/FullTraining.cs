using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Models;
using ContinuousDL.Samples.FashionStream.Running;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>Training from scratch, epoch by epoch: how every strategy's model starts, and all that full retraining does.</summary>
internal static class FullTraining
{
    /// <summary>Trains a new model on the first training samples.</summary>
    /// <param name="data">The samples.</param>
    /// <param name="count">How many of the training samples, from the first on.</param>
    /// <param name="settings">The number of epochs; the seed, which decides the initial weights and the order of the samples.</param>
    /// <param name="progress">Is told the number of samples trained on so far, out of count × epochs.</param>
    /// <param name="cancellation">Ends it early.</param>
    /// <returns>The model, which the caller owns.</returns>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public static TrainedModel Train(
        StreamData data, int count, RunSettings settings, Action<int>? progress, CancellationToken cancellation)
    {
        var samples = data.Training;
        var model = LeNet5.CreateSeeded(settings.Seed, samples.Channels, samples.Height, samples.Width, data.Classes);
        try
        {
            using var optimizer = Training.CreateOptimizer(model);
            var order = new int[count];
            for (var i = 0; i < count; i++) order[i] = i;
            var shuffle = new Random(settings.Seed);
            var steps = 0;
            for (var epoch = 0; epoch < settings.Epochs(count); epoch++)
            {
                shuffle.Shuffle(order);
                for (var start = 0; start < count; start += Training.BatchSize, steps++)
                {
                    cancellation.ThrowIfCancellationRequested();
                    var batch = order.AsSpan(start, Math.Min(Training.BatchSize, count - start));
                    var (images, labels) = samples.Batch(batch);
                    using (images)
                    using (labels)
                        Training.Step(model, optimizer, images, labels);
                    progress?.Invoke((epoch * count) + start + batch.Length);
                }
            }

            return new TrainedModel(model, optimizer, steps);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}
