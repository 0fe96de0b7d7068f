using System.Diagnostics;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Models;
using ContinuousDL.Samples.FashionStream.Running;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>
/// Deploys whole models, each trained from scratch on everything there is, or none but the first. The stream waits for a
/// training, so that its model is there for the next arrivals: the best case for this strategy.
/// </summary>
internal sealed class SnapshotRun : IStrategyRun
{
    private readonly StreamData data;
    private readonly RunSettings settings;
    private readonly bool retrains;
    private LeNet5 trained;
    private ModelReplica<LeNet5> replica;
    private int available;
    private int trainedOn;

    /// <param name="initial">Where it starts. It stays the caller's.</param>
    /// <param name="data">The initial history, followed by the samples that arrive.</param>
    /// <param name="settings">The seed and the number of epochs.</param>
    /// <param name="retrains">Whether it trains when the data has grown by one initial history; otherwise the first model stays.</param>
    public SnapshotRun(TrainedModel initial, StreamData data, RunSettings settings, bool retrains)
    {
        (this.data, this.settings, this.retrains) = (data, settings, retrains);
        trained = initial.Model.Copy();
        replica = CreateReplica();
        available = trainedOn = data.InitialCount;
    }

    /// <inheritdoc />
    public Tensor Predict(Tensor images) => replica.Predict(images);

    /// <inheritdoc />
    public Tensor PredictAsTrainer(Tensor images)
    {
        using var guard = no_grad();
        return trained.call(images);
    }

    /// <inheritdoc />
    public bool IsDigestIdentical() => replica.Verify() && replica.Digest == ModelSnapshot.Of(trained).StateDigest;

    /// <inheritdoc />
    public Work Learn(Tensor images, Tensor labels, CancellationToken cancellation)
    {
        available += (int)labels.shape[0];
        if (!retrains || available - trainedOn < data.InitialCount) return default;

        var clock = Stopwatch.StartNew();
        var next = FullTraining.Train(data, available, settings, progress: null, cancellation);
        trained.Dispose();
        replica.Dispose();
        trained = next.Model;
        replica = CreateReplica();
        trainedOn = available;
        return new Work(next.Steps, 1, sizeof(float) * trained.parameters().Sum(parameter => parameter.numel()), clock.Elapsed);
    }

    /// <inheritdoc />
    public void Dispose()
    {
        replica.Dispose();
        trained.Dispose();
    }

    private ModelReplica<LeNet5> CreateReplica() => new(trained.CreateAnother, ModelSnapshot.Of(trained));
}
