using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Benchmarks.Steps;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;

namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>Sparse steps against dense ones, and the trainer's dense step against the loop by hand.</summary>
internal static class StepRatios
{
    private const double Density = 1e-3;
    private const OptimizerKind Optimizer = OptimizerKind.AdamAmsGrad;

    /// <summary>The groups: one for each model, and one for the loop.</summary>
    public static IEnumerable<RatioGroup> Groups() =>
    [
        Sparse("LeNet-5", TimeSpan.FromSeconds(15), atMostOfTorchSharp: 1.00, atMostOfFused: null),
        Sparse("MobileNetV2", TimeSpan.FromSeconds(80), 0.97, 1.03),
        Sparse("ResNet-18", TimeSpan.FromSeconds(100), 0.97, 1.03),
        Loop(),
    ];

    private static RatioGroup Sparse(string name, TimeSpan budget, double atMostOfTorchSharp, double? atMostOfFused)
    {
        var bars = new List<Bar>
        {
            new($"step: sparse / dense with TorchSharp's optimizer, {name}", atMostOfTorchSharp),
            new($"step: sparse by default (look-ahead) / dense with TorchSharp's optimizer, {name}", atMostOfTorchSharp),
        };
        if (atMostOfFused is { } limit)
        {
            bars.Add(new($"step: sparse / dense with the fused optimizer, {name}", limit));
            bars.Add(new($"step: sparse / dense with the fused optimizer, deployed whole, {name}", limit));
        }

        return new RatioGroup(bars, () =>
        {
            var model = BenchmarkModel.Named(name);
            using var torchSharp = new HandWrittenLoop(model, p => Optimizers.TorchSharp(Optimizer, p));
            using var sparse = Trainer(model, new UpdateCompression(new TopKCompressor(Density)));
            using var byDefault = Trainer(model, null);
            using var fused = new HandWrittenLoop(model, p => Optimizers.Fused(Optimizer, p));
            using var deployedWhole = Trainer(model, new DenseDeployment());
            Action[] variants = [torchSharp.Step, sparse.Step, byDefault.Step, fused.Step, deployedWhole.Step];
            var times = PairedTimes.Measure(budget, atMostOfFused is null ? variants[..3] : variants);
            ReadOnlySpan<(int Variant, int Baseline)> pairs = [(1, 0), (2, 0), (1, 3), (1, 4)];
            var results = new Measurement[bars.Count];
            for (var i = 0; i < results.Length; i++)
            {
                var (variant, baseline) = pairs[i];
                results[i] = Measurement.Of(times, variant, baseline);
            }

            return results;
        });
    }

    private static RatioGroup Loop() => new([new("loop: dense Step() / the loop by hand, LeNet-5", 1.02)], () =>
    {
        var model = BenchmarkModel.Named("LeNet-5");
        using var byHand = new HandWrittenLoop(model, p => Optimizers.TorchSharp(Optimizer, p));
        using var trainer = new TrainerStep(model, p => Optimizers.TorchSharp(Optimizer, p), new DenseDeployment());
        var times = PairedTimes.Measure(TimeSpan.FromSeconds(15), byHand.Step, trainer.Step);
        return [Measurement.Of(times, 1, 0)];
    });

    private static TrainerStep Trainer(BenchmarkModel model, IDeploymentStrategy? strategy) =>
        new(model, p => Optimizers.Fused(Optimizer, p), strategy, Density);
}
