using System.Diagnostics;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Models;
using ContinuousDL.Samples.FashionStream.Running;
using ContinuousDL.Sampling;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>
/// Proactive training and its deployment: a <see cref="ProactiveTrainer"/>, and a replica that follows it by its updates. Online
/// learning is the case of it that takes new samples only.
/// </summary>
internal sealed class ProactiveRun : IStrategyRun
{
    /// <summary>How many samples of the initial history are handed over at a time.</summary>
    private const int HistoryChunk = 1000;

    private readonly LeNet5 model;
    private readonly FusedAdam optimizer;
    private readonly CrossEntropyLoss loss = nn.CrossEntropyLoss();
    private readonly ProactiveTrainer trainer;
    private readonly ModelReplica<LeNet5> replica;

    /// <param name="strategy">Which samples are trained on, and what is deployed.</param>
    /// <param name="initial">Where it starts. It stays the caller's.</param>
    /// <param name="data">The initial history.</param>
    /// <param name="settings">Trigger and seed.</param>
    public ProactiveRun(Strategy strategy, TrainedModel initial, StreamData data, RunSettings settings)
    {
        model = initial.Model.Copy();
        optimizer = Training.CreateOptimizer(model);
        initial.Restore(optimizer);
        var options = new ProactiveTrainerOptions
        {
            BatchSize = Training.BatchSize,
            TriggerSize = settings.Trigger,
            Seed = (ulong)settings.Seed,
            EvaluateArrivals = false, // the replica is what is evaluated
            NonFinite = NonFiniteHandling.Skip,
        };
        var components = new ProactiveTrainerComponents
        {
            Strategy = CreateDeployment(strategy, model.parameters().Sum(parameter => parameter.numel()), (ulong)settings.Seed),
            Sampler = strategy.Kind == StrategyKind.Online ? new OnlineSampler() : null,
        };
        trainer = new ProactiveTrainer(model, loss, optimizer, options, components);
        AddHistory(data);
        replica = new ModelReplica<LeNet5>(initial.Model.CreateAnother, trainer.CreateSnapshot());
    }

    /// <inheritdoc />
    public Tensor Predict(Tensor images) => replica.Predict(images);

    /// <inheritdoc />
    public Tensor PredictAsTrainer(Tensor images) => trainer.Predict(images);

    /// <inheritdoc />
    public bool IsDigestIdentical() => replica.Verify() && replica.Digest == trainer.Deployed.Digest;

    /// <inheritdoc />
    public Work Learn(Tensor images, Tensor labels, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        if (!trainer.Observe(images, labels).IsStepDue) return new Work(0, 0, 0, clock.Elapsed);
        using var result = trainer.Step();
        if (result.Update is not { } update) return new Work(1, 0, 0, clock.Elapsed);
        replica.Apply(update);
        return new Work(1, 1, update.SizeInBytes, clock.Elapsed);
    }

    /// <inheritdoc />
    public void Dispose()
    {
        replica.Dispose();
        trainer.Dispose();
        loss.Dispose();
        optimizer.Dispose();
        model.Dispose();
    }

    private void AddHistory(StreamData data)
    {
        for (var first = 0; first < data.InitialCount; first += HistoryChunk)
        {
            var (images, labels) = data.Training.Batch(first, Math.Min(HistoryChunk, data.InitialCount - first));
            using (images)
            using (labels)
                trainer.AddHistory(images, labels);
        }
    }

    private static IDeploymentStrategy CreateDeployment(Strategy strategy, long coordinates, ulong seed)
    {
        switch (strategy.Kind)
        {
            case StrategyKind.Online or StrategyKind.Dense:
                return new DenseDeployment();
            case StrategyKind.Update:
                return new UpdateCompression(CreateCompressor(strategy, seed));
            case StrategyKind.Ahead:
                var density = strategy.Density ?? Math.Min(1, (double)strategy.Count!.Value / coordinates);
                return new UpdateCompression(CreateCompressor(strategy, seed), lookahead: UpdateCompression.LookaheadFor(density));
            case StrategyKind.Difference:
                return new ReplicaDifference(CreateCompressor(strategy, seed));
            case StrategyKind.Gradient:
                return new GradientCompression(CreateCompressor(strategy, seed));
            default:
                throw new ArgumentOutOfRangeException(nameof(strategy), strategy, "Not a strategy of proactive training.");
        }
    }

    private static IGradientCompressor CreateCompressor(Strategy strategy, ulong seed) => (strategy.Choice, strategy.Count) switch
    {
        (CoordinateChoice.TopK, { } count) => TopKCompressor.OfCount(count),
        (CoordinateChoice.TopK, null) => new TopKCompressor(strategy.Density!.Value),
        (CoordinateChoice.RandomK, { } count) => RandomKCompressor.OfCount(count, seed: seed),
        (CoordinateChoice.RandomK, null) => new RandomKCompressor(strategy.Density!.Value, seed: seed),
        _ => throw new ArgumentOutOfRangeException(nameof(strategy), strategy, "A sparse strategy picks coordinates."),
    };
}
