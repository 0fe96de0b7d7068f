using System.Globalization;
using ContinuousDL.AspNetCore;
using ContinuousDL.Evaluation;
using ContinuousDL.History;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Models;
using ContinuousDL.Samples.FashionStream.Running;
using ContinuousDL.Samples.FashionStream.Strategies;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.TrainAndServe;

/// <summary>
/// Trains on the stream, keeps samples, updates and checkpoints on disk, and serves the updates over HTTP. Started again on the
/// same folder it goes on where it was.
/// </summary>
internal static class TrainerProcess
{
    private const int Trigger = 8;
    private const int InitialEpochs = 10;
    private const int StepsBetweenCheckpoints = 100;

    /// <summary>Runs until it is told to stop.</summary>
    /// <param name="directory">Where everything is kept.</param>
    /// <param name="samples">How many samples of the stream to train on.</param>
    /// <param name="cancellation">Ends it.</param>
    public static async Task<int> RunAsync(string directory, int samples, CancellationToken cancellation)
    {
        var data = StreamData.Load(StreamData.EmbeddedDirectory, DataFormat.Mnist);
        samples = Math.Min(samples, data.StreamCount);
        using var log = UpdateLog.Open(Path.Combine(directory, "updates"));
        using var run = new Training(data, Path.Combine(directory, "samples"), Path.Combine(directory, "checkpoint"), log);

        var status = run.Status(isDone: false);
        var app = ChildHost.Build();
        app.MapModelUpdates("/updates", log);
        app.MapGet("/status", () => Volatile.Read(ref status));
        await using (app)
        {
            await ChildHost.StartAsync(app, cancellation);
            try
            {
                // The loop is the application's own: it decides when to observe, step, publish and save.
                while (run.StreamPosition < samples)
                {
                    cancellation.ThrowIfCancellationRequested();
                    run.Next(Math.Min(Trigger, samples - (int)run.StreamPosition));
                    Volatile.Write(ref status, run.Status(isDone: false));
                }

                run.SaveCheckpoint();
                Volatile.Write(ref status, run.Status(isDone: true));
                await Task.Delay(Timeout.Infinite, cancellation);
            }
            catch (OperationCanceledException)
            {
                // It was told to stop.
            }
        }

        return 0;
    }

    /// <summary>The trainer with all that it keeps.</summary>
    private sealed class Training : IDisposable
    {
        private readonly StreamData data;
        private readonly string checkpoint;
        private readonly UpdateLog log;
        private readonly LeNet5 model;
        private readonly TorchSharp.Modules.CrossEntropyLoss loss = nn.CrossEntropyLoss();
        private readonly optim.Optimizer optimizer;
        private readonly MappedSampleHistory history;
        private readonly ProactiveTrainer trainer;

        public Training(StreamData data, string historyDirectory, string checkpoint, UpdateLog log)
        {
            (this.data, this.checkpoint, this.log) = (data, checkpoint, log);
            history = new MappedSampleHistory(historyDirectory);
            var options = new ProactiveTrainerOptions { TriggerSize = Trigger };
            var components = new ProactiveTrainerComponents { History = history, Evaluator = new ClassificationEvaluator() };
            if (File.Exists(checkpoint))
            {
                model = new LeNet5(data.Training.Channels, data.Training.Height, data.Training.Width, data.Classes);
                optimizer = FashionStream.Strategies.Training.CreateOptimizer(model);
                trainer = ProactiveTrainer.Restore(checkpoint, model, loss, optimizer, options, components);

                // The replicas may be ahead of the checkpoint; they are brought to the state that training goes on from.
                using var update = trainer.ContinueFrom(log.HeadSnapshot());
                if (update is not null) log.Append(update);
                return;
            }

            using (var initial = FullTraining.Train(data, data.InitialCount, new RunSettings(FewestEpochs: InitialEpochs, FewestSamples: 0), null, CancellationToken.None))
            {
                model = initial.Model.Copy();
                optimizer = FashionStream.Strategies.Training.CreateOptimizer(model);
                initial.Restore((Optimization.FusedAdam)optimizer);
            }

            trainer = new ProactiveTrainer(model, loss, optimizer, options, components);
            if (history.EndIndex == 0)
            {
                var (images, labels) = data.Training.Batch(0, data.InitialCount);
                using (images)
                using (labels)
                    trainer.AddHistory(images, labels);
            }

            log.WriteSnapshot(trainer.CreateSnapshot());
            SaveCheckpoint();
        }

        /// <summary>How many samples of the stream are accepted. The history knows: it is what an accepted sample is kept in.</summary>
        public long StreamPosition => history.EndIndex - data.InitialCount;

        /// <summary>Takes in the next arrivals, and trains.</summary>
        public void Next(int count)
        {
            var (images, labels) = data.Training.Batch((int)history.EndIndex, count);
            using (images)
            using (labels)
                trainer.Observe(images, labels);
            using var result = trainer.Step();
            if (result.Update is not { } update) return;
            log.Append(update);
            if (update.Sequence % StepsBetweenCheckpoints == 0) SaveCheckpoint();
        }

        public void SaveCheckpoint() => trainer.SaveCheckpoint(checkpoint);

        public TrainerStatus Status(bool isDone) => new(
            trainer.Deployed.Sequence,
            trainer.Deployed.Digest.ToString("x16", CultureInfo.InvariantCulture),
            log.Head!.Value.Sequence,
            log.Head!.Value.Digest.ToString("x16", CultureInfo.InvariantCulture),
            StreamPosition,
            history.Count - data.InitialCount,
            trainer.PendingSamples,
            trainer.Deployed.Layout.SizeInBytes,
            trainer.Evaluator.Summary.Accuracy?.Window,
            isDone);

        public void Dispose()
        {
            trainer.Dispose();
            optimizer.Dispose();
            loss.Dispose();
            model.Dispose();
        }
    }
}
