using System.Diagnostics;
using System.Runtime.InteropServices;
using ContinuousDL.Benchmarks.Histories;
using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Benchmarks.Steps;

namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>What it costs that a trainer survives: batches from disk against a copy of the rows, and what a checkpoint holds a step up for against a copy of the state.</summary>
internal static class DurabilityRatios
{
    private const int Samples = 1_000_000;
    private static readonly TimeSpan Budget = TimeSpan.FromSeconds(6);

    /// <summary>The groups.</summary>
    public static IEnumerable<RatioGroup> Groups() => [Gather(), Reopen(), Checkpoint("LeNet-5"), Checkpoint("ResNet-18")];

    private static RatioGroup Gather() => new(
        [new("history in memory: a batch of 128 / a copy of its rows", 2), new("history on disk: a batch of 128 / a copy of its rows", 2)],
        () =>
        {
            using var stream = new GatherStream(Samples);
            var times = PairedTimes.Measure(Budget, stream.Copy, () => stream.Gather(stream.InMemory), () => stream.Gather(stream.Mapped));
            return [Measurement.Of(times, 1, 0), Measurement.Of(times, 2, 0)];
        });

    private static RatioGroup Reopen() => new([new("history on disk: closing and opening 0.8 GB / 10 ms", 1)], () =>
    {
        using var stream = new GatherStream(Samples);
        var limit = TimeSpan.FromMilliseconds(10);
        var times = new List<double>();
        for (var i = 0; i < 20; i++)
        {
            var start = Stopwatch.GetTimestamp();
            stream.Reopen();
            times.Add(Stopwatch.GetElapsedTime(start) / limit);
        }

        var spread = Spread.Of(times);
        return [new Measurement(spread, FormattableString.Invariant($"{spread.Median * limit.TotalMilliseconds:0.0} ms"))];
    });

    private static unsafe RatioGroup Checkpoint(string name) => new([new($"checkpoint: what a step waits for / a copy of the state, {name}", 1)], () =>
    {
        using var step = new TrainerStep(BenchmarkModel.Named(name), p => Optimizers.Fused(OptimizerKind.AdamAmsGrad, p), null);
        for (var i = 0; i < 3; i++) step.Step();
        using var state = step.Trainer.CopyState();
        var bytes = (nuint)state.Length;
        var source = (byte*)NativeMemory.AllocZeroed(bytes);
        new Span<byte>(source, checked((int)bytes)).Fill(1);
        var times = PairedTimes.Measure(Budget, () => step.Trainer.CopyState().Dispose(), () =>
        {
            var copy = (byte*)NativeMemory.Alloc(bytes);
            Buffer.MemoryCopy(source, copy, bytes, bytes);
            NativeMemory.Free(copy);
        });
        NativeMemory.Free(source);
        var measured = Measurement.Of(times, 0, 1);
        return [measured with { Detail = FormattableString.Invariant($"{measured.Detail}, {bytes / 1e6:0.0} MB") }];
    });
}
