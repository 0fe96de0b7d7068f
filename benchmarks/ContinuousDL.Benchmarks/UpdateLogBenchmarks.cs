using BenchmarkDotNet.Attributes;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Benchmarks;

/// <summary>An update log: appending, with and without waiting for the disk, and what a replica that is behind is given.</summary>
[Config(typeof(BenchmarkConfig.Steps))]
public class UpdateLogBenchmarks
{
    private const int Appends = 50;
    private const int Behind = 500;

    private readonly ModelUpdate[] updates = new ModelUpdate[Appends];
    private string directory = "";
    private UpdateStream stream = null!;
    private UpdateLog waiting = null!;
    private UpdateLog writing = null!;
    private int next;

    /// <summary>Whose shapes the updates have.</summary>
    [Params("LeNet-5", "ResNet-18")]
    public string Model { get; set; } = "";

    /// <summary>The share of the parameters that an update changes.</summary>
    [Params(1e-3, 1e-4)]
    public double Density { get; set; }

    /// <summary>Makes two logs with some updates.</summary>
    [GlobalSetup]
    public void Setup()
    {
        directory = Directory.CreateTempSubdirectory("update-log-").FullName;
        stream = new UpdateStream(Model, Density);
        waiting = Open("waiting", flush: true);
        writing = Open("writing", flush: false);
        for (var i = 0; i < Behind + Appends; i++)
        {
            using var update = stream.Next();
            writing.Append(update);
            waiting.Append(update);
        }
    }

    /// <summary>Makes the updates to be appended, which both logs get in the end.</summary>
    [IterationSetup(Targets = [nameof(Append), nameof(AppendAndFlush)])]
    public void MakeUpdates()
    {
        for (var i = 0; i < Appends; i++) updates[i] = stream.Next();
    }

    /// <summary>Lets the other log have the updates too.</summary>
    [IterationCleanup(Targets = [nameof(Append), nameof(AppendAndFlush)])]
    public void ForgetUpdates()
    {
        foreach (var update in updates)
        {
            writing.Append(update);
            waiting.Append(update);
            update.Dispose();
        }
    }

    /// <summary>Appends to the operating system's cache.</summary>
    [Benchmark(OperationsPerInvoke = Appends)]
    public void Append()
    {
        foreach (var update in updates) writing.Append(update);
    }

    /// <summary>Appends, and waits for the disk each time.</summary>
    [Benchmark(OperationsPerInvoke = Appends)]
    public void AppendAndFlush()
    {
        foreach (var update in updates) waiting.Append(update);
    }

    /// <summary>What brings a replica forward that is 500 updates behind: reads, merges, encodes.</summary>
    [Benchmark]
    public int ReadFrom()
    {
        // Never twice the same, which the log would have kept.
        var head = writing.Head!.Value;
        return writing.ReadFrom(head.RunId, head.Sequence - Behind + (next++ % Appends)).Messages.Count;
    }

    /// <summary>Removes the logs.</summary>
    [GlobalCleanup]
    public void Remove()
    {
        waiting.Dispose();
        writing.Dispose();
        Directory.Delete(directory, recursive: true);
    }

    private UpdateLog Open(string name, bool flush)
    {
        var log = UpdateLog.Open(Path.Combine(directory, name), new UpdateLogOptions { FlushOnAppend = flush, CompactAutomatically = false });
        log.WriteSnapshot(stream.Start);
        return log;
    }
}
