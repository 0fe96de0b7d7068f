using System.Diagnostics;
using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Benchmarks.Steps;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>How long predictions take while updates are applied, against how long they take without.</summary>
internal static class ServingRatios
{
    private const int Threads = 8;
    private const int UpdatesPerSecond = 100;
    private const int Rounds = 9;
    private const double Percentile = 0.99;
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(1);

    /// <summary>The group.</summary>
    public static IEnumerable<RatioGroup> Groups() =>
        [new RatioGroup([new($"serving: 99th percentile of {Threads} threads with {UpdatesPerSecond} updates a second / without, LeNet-5", 1.1)], () => [Measure("LeNet-5")])];

    private static Measurement Measure(string name)
    {
        var model = BenchmarkModel.Named(name);
        using var trained = model.Create();
        using var criterion = nn.CrossEntropyLoss();
        using var optimizer = Optimizers.Fused(OptimizerKind.AdamAmsGrad, trained.parameters());
        using var trainer = new ProactiveTrainer(trained, criterion, optimizer);
        using var replica = new ModelReplica<nn.Module<Tensor, Tensor>>(model.Create, trainer.CreateSnapshot());
        using (var data = new TrainingData(model)) trainer.AddHistory(data.Inputs, data.Targets);

        var perWindow = (int)(UpdatesPerSecond * Window.TotalSeconds);
        var updates = new Queue<ModelUpdate>();
        for (var i = 0; i < (Rounds + 1) * perWindow; i++) updates.Enqueue(trainer.Step().Update!);

        // Each prediction has a thread of its own: more of libtorch's would only get in each other's way.
        var threads = get_num_threads();
        set_num_threads(1);
        try
        {
            Serve(replica, model, updates, perWindow);
            var ratios = new double[Rounds];
            var (with, without) = (0.0, 0.0);
            for (var r = 0; r < Rounds; r++)
            {
                // The other one first each time.
                if (r % 2 == 0) without = Serve(replica, model, updates, 0);
                with = Serve(replica, model, updates, perWindow);
                if (r % 2 == 1) without = Serve(replica, model, updates, 0);
                ratios[r] = with / without;
            }

            return new Measurement(Spread.Of(ratios), FormattableString.Invariant($"{with * 1e3:0.00} ms / {without * 1e3:0.00} ms at last, {Rounds} rounds"));
        }
        finally
        {
            set_num_threads(threads);
        }
    }

    /// <summary>Predicts from all threads without pause for the time of a window.</summary>
    /// <param name="replica">What predicts.</param>
    /// <param name="model">What it is a replica of.</param>
    /// <param name="updates">Where the updates are taken from.</param>
    /// <param name="count">How many are applied, evenly over the window.</param>
    /// <returns>The percentile of the times that predictions took, in seconds.</returns>
    private static double Serve(ModelReplica<nn.Module<Tensor, Tensor>> replica, BenchmarkModel model, Queue<ModelUpdate> updates, int count)
    {
        var start = Stopwatch.GetTimestamp();
        var latencies = new List<double>[Threads];
        var workers = new Thread[Threads];
        for (var t = 0; t < Threads; t++)
        {
            var own = latencies[t] = [];
            workers[t] = new Thread(() =>
            {
                using var input = randn(1, model.Channels, model.Size, model.Size);
                for (long begun; Stopwatch.GetElapsedTime(start, begun = Stopwatch.GetTimestamp()) < Window;)
                {
                    using var scope = NewDisposeScope();
                    _ = replica.Predict(input);
                    own.Add(Stopwatch.GetElapsedTime(begun).TotalSeconds);
                }
            });
            workers[t].Start();
        }

        for (var i = 0; i < count; i++)
        {
            var due = (Window * i / count) - Stopwatch.GetElapsedTime(start);
            if (due > TimeSpan.Zero) Thread.Sleep(due);
            using var update = updates.Dequeue();
            replica.Apply(update);
        }

        foreach (var worker in workers) worker.Join();
        var all = latencies.SelectMany(l => l).Order().ToArray();
        return all[(int)(Percentile * (all.Length - 1))];
    }
}
