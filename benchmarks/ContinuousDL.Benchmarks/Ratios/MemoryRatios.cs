using System.Diagnostics;
using System.Runtime.InteropServices;
using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Benchmarks.Steps;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>Memory: what a sparse step leaves to the garbage collector, and what sparse training takes beside the model.</summary>
internal static partial class MemoryRatios
{
    private const double Density = 1e-3;
    private const double AllowedManagedBytes = 2048;

    /// <summary>A float for the residual and three for Adam with AMSGrad.</summary>
    private const double AllowedBytesPerParameter = 16;

    /// <summary>Room for what follows k, and for what the process takes meanwhile: 5 %.</summary>
    private const double MostOfAllowed = 1.05;

    private const int WarmUps = 10;
    private const int Steps = 7;

    /// <summary>The groups.</summary>
    public static IEnumerable<RatioGroup> Groups() =>
    [
        new([new("memory: managed bytes per sparse step beyond forward and backward / 2 KiB, LeNet-5", 1)], () => Managed("LeNet-5")),
        new([new("memory: managed bytes per sparse step beyond forward and backward / 2 KiB, MobileNetV2", 1)], () => Managed("MobileNetV2")),
        new([new("memory: sparse training / residual and optimizer state, ResNet-18", MostOfAllowed)], () => Resident("ResNet-18", plain: true)),
        new([new("memory: sparse training by default (look-ahead) / residual and optimizer state, ResNet-18", MostOfAllowed)], () => Resident("ResNet-18", plain: false)),
    ];

    private static Measurement[] Managed(string name)
    {
        var model = BenchmarkModel.Named(name);
        using var passes = new ForwardBackward(model);
        using var sparse = new TrainerStep(
            model, p => Optimizers.Fused(OptimizerKind.AdamAmsGrad, p), new UpdateCompression(new TopKCompressor(Density)), Density);
        for (var i = 0; i < WarmUps; i++)
        {
            passes.Step();
            sparse.Step();
        }

        var extra = new double[Steps];
        for (var i = 0; i < Steps; i++)
        {
            var plain = Allocated(passes.Step);
            extra[i] = Allocated(sparse.Step) - plain;
        }

        var spread = Spread.Of(extra.Select(bytes => bytes / AllowedManagedBytes));
        return [new Measurement(spread, $"{spread.Median * AllowedManagedBytes:N0} bytes")];
    }

    /// <summary>The managed bytes that something allocates, on all threads.</summary>
    private static long Allocated(Action action)
    {
        var before = GC.GetTotalAllocatedBytes(precise: true);
        action();
        return GC.GetTotalAllocatedBytes(precise: true) - before;
    }

    private static Measurement[] Resident(string name, bool plain)
    {
        var model = BenchmarkModel.Named(name);
        using var passes = new ForwardBackward(model);
        for (var i = 0; i < WarmUps; i++) passes.Step();
        passes.ReleaseGradients();
        var before = ResidentBytes();
        using var sparse = passes.Continue(
            p => Optimizers.Fused(OptimizerKind.AdamAmsGrad, p), plain ? new UpdateCompression(new TopKCompressor(Density)) : null, Density);
        for (var i = 0; i < Steps; i++) sparse.Step();
        var extra = ResidentBytes() - before;
        var ratio = extra / (AllowedBytesPerParameter * model.ParameterCount);
        return [new Measurement(Spread.Exactly(ratio), $"{extra / 1e6:N0} MB, {(double)extra / model.ParameterCount:N1} bytes per parameter")];
    }

    /// <summary>What the process has in memory, without what it has freed but the C library keeps for later.</summary>
    private static long ResidentBytes()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        if (OperatingSystem.IsLinux()) TrimHeap(0);
        using var process = Process.GetCurrentProcess();
        return process.WorkingSet64;
    }

    /// <summary>Makes glibc give freed memory back to the system.</summary>
    [LibraryImport("libc", EntryPoint = "malloc_trim")]
    private static partial int TrimHeap(nuint keep);
}
