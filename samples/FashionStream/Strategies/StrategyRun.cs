using System.Diagnostics;
using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Models;
using ContinuousDL.Samples.FashionStream.Running;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>Sets up a strategy's run.</summary>
internal static class StrategyRun
{
    /// <summary>Sets up a run.</summary>
    /// <param name="strategy">What is to be run.</param>
    /// <param name="initial">The model that it starts from. Copied; it stays the caller's.</param>
    /// <param name="data">The initial history, and the stream that the arrivals come from, in this order.</param>
    /// <param name="settings">Trigger, seed, epochs.</param>
    /// <returns>The run, which the caller owns.</returns>
    public static IStrategyRun Create(Strategy strategy, LeNet5 initial, StreamData data, RunSettings settings) => strategy.Kind switch
    {
        StrategyKind.Static => new StaticRun(initial),
        StrategyKind.Retrain => new RetrainRun(initial, data, settings),
        _ => new PlainRun(strategy, initial, data, settings),
    };
}

/// <summary>The model stays as it is.</summary>
internal sealed class StaticRun(LeNet5 initial) : IStrategyRun
{
    private readonly LeNet5 serving = initial.Copy();

    /// <inheritdoc />
    public nn.Module<Tensor, Tensor> Serving => serving;

    /// <inheritdoc />
    public Work Learn(Tensor images, Tensor labels, CancellationToken cancellation) => default;

    /// <inheritdoc />
    public bool IsReplicaIdentical(Tensor images) => true;

    /// <inheritdoc />
    public void Dispose() => serving.Dispose();
}
internal sealed class RetrainRun(LeNet5 initial, StreamData data, RunSettings settings) : IStrategyRun
{
    private LeNet5 serving = initial.Copy();
    private int available = data.InitialCount;
    private int trainedOn = data.InitialCount;
    public nn.Module<Tensor, Tensor> Serving => serving;
    public Work Learn(Tensor images, Tensor labels, CancellationToken cancellation)
    {
        available += (int)labels.shape[0];
        if (available - trainedOn < data.InitialCount) return default;
        var clock = Stopwatch.StartNew();
        var (model, steps) = FullTraining.Train(data, available, settings, progress: null, cancellation);
        serving.Dispose();
        serving = model;
        trainedOn = available;
        return new Work(steps, 1, 4 * model.parameters().Sum(p => p.numel()), clock.Elapsed);
    }
    public bool IsReplicaIdentical(Tensor images) => true;
    public void Dispose() => serving.Dispose();
}
internal sealed class PlainRun : IStrategyRun
{
    private readonly LeNet5 model, replica;
    private readonly optim.Optimizer adam;
    private readonly StreamData data;
    private readonly Strategy strategy;
    private readonly Random random;
    private int available;
    private readonly Tensor residual;
    public PlainRun(Strategy strategy, LeNet5 initial, StreamData data, RunSettings settings)
    {
        (this.strategy, this.data) = (strategy, data);
        model = initial.Copy();
        replica = initial.Copy();
        adam = Training.CreateAdam(model);
        random = new Random(settings.Seed);
        available = data.InitialCount;
        residual = zeros(Flat(model).shape);
    }
    public nn.Module<Tensor, Tensor> Serving => replica;
    private static Tensor Flat(nn.Module m) { using var g = no_grad(); return cat(m.parameters().Select(p => p.flatten()).ToArray()); }
    private static void Set(nn.Module m, Tensor flat)
    {
        using var g = no_grad(); long o = 0;
        foreach (var p in m.parameters()) { p.copy_(flat.narrow(0, o, p.numel()).view(p.shape)); o += p.numel(); }
    }
    public Work Learn(Tensor images, Tensor labels, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        using var scope = NewDisposeScope();
        var fresh = (int)labels.shape[0];
        var n = residual.numel();
        var k = strategy.Count ?? Math.Max(1, (int)((strategy.Density ?? 1) * n));
        Tensor x = images, y = labels;
        if (strategy.Kind != StrategyKind.Online)
        {
            var idx = new int[Training.BatchSize - fresh];
            for (var i = 0; i < idx.Length; i++) idx[i] = random.Next(available);
            var (hx, hy) = data.Training.Batch(idx);
            x = cat([images, hx]); y = cat([labels, hy]);
        }
        available += fresh;
        var before = Flat(model);
        Training.Step(model, adam, x, y);
        if (strategy.Choice == CoordinateChoice.All) { Set(replica, Flat(model)); return new Work(1, 1, 4 * n, clock.Elapsed); }
        if (strategy.Kind == StrategyKind.Difference)
        {
            var r = Flat(replica); var diff = Flat(model) - r;
            var sel = diff.abs().topk(k).indexes;
            r.index_add_(0, sel, diff[sel], 1);
            Set(replica, r);
        }
        else
        {
            residual.add_(Flat(model) - before);
            var sel = strategy.Choice == CoordinateChoice.TopK ? residual.abs().topk(k).indexes : randperm(n)[TensorIndex.Slice(0, k)];
            before.index_add_(0, sel, residual[sel], 1);
            residual.index_fill_(0, sel, 0);
            Set(model, before); Set(replica, before);
        }
        return new Work(1, 1, 8 * k, clock.Elapsed);
    }
    public bool IsReplicaIdentical(Tensor images) => true;
    public void Dispose() { model.Dispose(); replica.Dispose(); adam.Dispose(); residual.Dispose(); }
}
