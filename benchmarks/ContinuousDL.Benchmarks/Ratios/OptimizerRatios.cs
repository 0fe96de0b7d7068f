using ContinuousDL.Benchmarks.Compression;
using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Benchmarks.Steps;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>The fused Adam with AMSGrad, against the time that a copy of as many bytes takes.</summary>
internal static class OptimizerRatios
{
    /// <summary>It reads gradient, weight, two moments and the largest second moment, and writes all but the first: 9 floats.</summary>
    private const double BytesPerParameter = 36;

    /// <summary>A copy reads a float and writes one.</summary>
    private const double BytesPerCopied = 8;

    /// <summary>The group.</summary>
    public static IEnumerable<RatioGroup> Groups() =>
        [new RatioGroup([new("optimizer: fused Adam AMSGrad / its bytes at the bandwidth of a copy, ResNet-18", 2)], Measure)];

    private static Measurement[] Measure()
    {
        using var model = BenchmarkModel.Named("ResNet-18").Create();
        using var optimizer = Optimizers.Fused(OptimizerKind.AdamAmsGrad, model.parameters());
        using Scalar size = 1e-3;
        foreach (var parameter in model.parameters())
        {
            using var gradient = randn(parameter.shape).mul_(size);
            parameter.grad = gradient;
        }

        var n = BenchmarkModel.CountParameters(model);
        using var source = ones(n);
        using var target = zeros(n);
        var times = PairedTimes.Measure(
            TimeSpan.FromSeconds(8),
            () => optimizer.step(),
            () => HeavyTailedGradients.Elements(source).CopyTo(HeavyTailedGradients.Elements(target)));
        return [Measurement.Of(times, 0, 1, BytesPerCopied / BytesPerParameter)];
    }
}
