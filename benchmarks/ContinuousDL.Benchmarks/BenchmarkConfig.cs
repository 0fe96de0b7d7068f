using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Diagnosers;
using BenchmarkDotNet.Engines;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Toolchains.InProcess.Emit;

namespace ContinuousDL.Benchmarks;

/// <summary>How the benchmarks run: in this process, with the memory diagnoser.</summary>
/// <remarks>
/// Implementation note: BenchmarkDotNet would otherwise generate a project for each run that takes TorchSharp's native library
/// as the package has it, since it leaves this repository's targets out; on Debian 12 and Ubuntu 22.04 that one does not load.
/// Nothing that is measured here depends on a process of its own: the variants are warm, and what they allocate is native.
/// </remarks>
internal abstract class BenchmarkConfig : ManualConfig
{
    private static readonly TimeSpan LongestCase = TimeSpan.FromMinutes(30);

    /// <summary>Adds the job and the diagnoser.</summary>
    /// <param name="job">How often what is run.</param>
    private protected BenchmarkConfig(Job job)
    {
        AddJob(job.WithToolchain(new InProcessEmitToolchain(LongestCase, logOutput: true)));
        AddDiagnoser(MemoryDiagnoser.Default);
    }

    /// <summary>For operations of micro- to milliseconds: BenchmarkDotNet finds how many make up an iteration.</summary>
    internal sealed class Short() : BenchmarkConfig(Job.Default.WithWarmupCount(5).WithIterationCount(15));

    /// <summary>For whole training steps: each is one iteration.</summary>
    internal sealed class Steps() : BenchmarkConfig(Job.Default.WithStrategy(RunStrategy.Monitoring).WithWarmupCount(5).WithIterationCount(20));
}
