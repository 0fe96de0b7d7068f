using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using static ContinuousDL.CrashTest.CrashModel;
using static TorchSharp.torch;

namespace ContinuousDL.CrashTest;

/// <summary>Writes what the library writes to disk, and says of each time whether it went well: for disks that fail.</summary>
internal static class StorageProgram
{
    /// <summary>Appends updates to a log.</summary>
    /// <param name="directory">Where the log is.</param>
    /// <param name="count">How many updates.</param>
    /// <param name="options">How it writes.</param>
    public static void AppendUpdates(string directory, int count, UpdateLogOptions options)
    {
        using var trainer = MakeTrainer();
        using var log = UpdateLog.Open(Updates(directory), options);
        log.WriteSnapshot(trainer.CreateSnapshot());
        for (var i = 0; i < count; i++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = CrashSamples.Make(i * 4, 4);
            using var result = trainer.Step(inputs, targets);
            Try(() => log.Append(result.Update!));
        }

        if (options.CompactAutomatically) SpinWait.SpinUntil(() => log.CompactionError is not null, TimeSpan.FromMinutes(1));
        Say($"compaction {log.CompactionError?.GetType().Name ?? "went well"}");
    }

    /// <summary>Appends samples, and flushes them.</summary>
    /// <param name="directory">Where the history is.</param>
    /// <param name="count">How often.</param>
    public static void AppendSamples(string directory, int count)
    {
        using var history = new MappedSampleHistory(Samples(directory));
        for (var i = 0; i < count; i++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = CrashSamples.Make(history.EndIndex, 4);
            Try(() =>
            {
                history.Append(inputs, targets);
                history.Flush();
            });
        }
    }

    /// <summary>Saves checkpoints, each of a later state.</summary>
    /// <param name="directory">Where to.</param>
    /// <param name="count">How many.</param>
    public static void SaveCheckpoints(string directory, int count)
    {
        using var trainer = MakeTrainer();
        for (var i = 0; i < count; i++) Try(() => trainer.SaveCheckpoint(Checkpoint(directory)));
    }

    /// <summary>Saves snapshots.</summary>
    /// <param name="directory">Where to.</param>
    /// <param name="count">How many.</param>
    public static void SaveSnapshots(string directory, int count)
    {
        using var model = Make();
        for (var i = 0; i < count; i++) Try(() => ModelSnapshot.Of(model).Save(Path.Combine(directory, "snapshot.safetensors")));
    }

    /// <summary>Opens the log and the history of a directory for writing.</summary>
    /// <param name="directory">Where they are.</param>
    public static void Open(string directory)
    {
        Try(() => UpdateLog.Open(Updates(directory)).Dispose());
        Try(() => new MappedSampleHistory(Samples(directory)).Dispose());
    }

    private static ProactiveTrainer MakeTrainer()
    {
        var model = Make();
        return new ProactiveTrainer(model, nn.CrossEntropyLoss(), new FusedAdam(model.parameters()), Options);
    }

    private static void Try(Action action)
    {
        try
        {
            action();
            Say("done");
        }
        catch (Exception e)
        {
            Say($"{e.GetType().Name}: {e.Message.ReplaceLineEndings(" ")}");
        }
    }
}
