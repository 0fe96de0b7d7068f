using BenchmarkDotNet.Attributes;
using ContinuousDL.Benchmarks.Histories;

namespace ContinuousDL.Benchmarks;

/// <summary>Gathering a batch of 128 small images out of a million, from memory and from disk, against a plain copy of the rows; and opening that history.</summary>
[Config(typeof(BenchmarkConfig.Short))]
public class HistoryBenchmarks
{
    private GatherStream stream = null!;

    /// <summary>How many samples there are.</summary>
    [Params(1_000_000)]
    public int Samples { get; set; }

    /// <summary>Fills the histories.</summary>
    [GlobalSetup]
    public void Setup() => stream = new GatherStream(Samples);

    /// <summary>Deletes them.</summary>
    [GlobalCleanup]
    public void Cleanup() => stream.Dispose();

    /// <summary>Copies the rows out of plain memory into memory that is there.</summary>
    [Benchmark(Baseline = true)]
    public void Copy() => stream.Copy();

    /// <summary>Gathers them from a history in memory, into new tensors.</summary>
    [Benchmark]
    public void InMemory() => stream.Gather(stream.InMemory);

    /// <summary>Gathers them from a history on disk, checksums included, into new tensors.</summary>
    [Benchmark]
    public void Mapped() => stream.Gather(stream.Mapped);

    /// <summary>Closes the history on disk and opens it again.</summary>
    [Benchmark]
    public void Reopen() => stream.Reopen();
}
