using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Replication.UpdateLogs;
using static ContinuousDL.CrashTest.CrashModel;
using static TorchSharp.torch;

namespace ContinuousDL.CrashTest;

/// <summary>A trainer that goes on where it was, whenever it was killed.</summary>
internal static class TrainerProgram
{
    /// <summary>Trains until it is killed.</summary>
    /// <param name="directory">Where everything is kept.</param>
    /// <param name="random">How many samples come at a time, and when a checkpoint is saved.</param>
    /// <param name="steps">After how many steps to finish; null for never.</param>
    /// <param name="stop">Ends it.</param>
    public static async Task RunAsync(string directory, Random random, int? steps, CancellationToken stop)
    {
        set_num_threads(1);
        using var model = Make();
        using var loss = nn.CrossEntropyLoss();
        using var optimizer = new FusedAdam(model.parameters());

        // Small files, so that the process is also killed while one is begun; everything is kept, for the test to look at.
        var history = new MappedSampleHistory(Samples(directory), new() { SegmentBytes = 4 << 10 });
        using var log = UpdateLog.Open(Updates(directory), new() { SegmentBytes = 4 << 10, SnapshotInterval = 50, KeepUpdates = null, KeepBytes = null });
        var components = new ProactiveTrainerComponents { History = history };
        using var trainer = File.Exists(Checkpoint(directory))
            ? ProactiveTrainer.Restore(Checkpoint(directory), model, loss, optimizer, Options, components)
            : new ProactiveTrainer(model, loss, optimizer, Options, components);

        // From the first sample on there is a checkpoint that counts it as new, and from the first update on a state that it starts from.
        if (!File.Exists(Checkpoint(directory))) trainer.SaveCheckpoint(Checkpoint(directory));
        if (log.Head is null)
        {
            log.WriteSnapshot(trainer.CreateSnapshot());
        }
        else
        {
            using var update = trainer.ContinueFrom(log.HeadSnapshot());
            if (update is not null) log.Append(update);
        }

        Say($"ready {history.EndIndex} {trainer.Deployed.Sequence} {trainer.PendingSamples}");
        var saving = Task.CompletedTask;
        for (var step = 0; (steps is null || step < steps) && !stop.IsCancellationRequested;)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = CrashSamples.Make(history.EndIndex, random.Next(1, 9));
            var observed = trainer.Observe(inputs, targets);
            Say($"kept {history.EndIndex}");
            if (!observed.IsStepDue) continue;
            using (var result = trainer.Step()) log.Append(result.Update!);
            Say($"published {trainer.Deployed.Sequence}");
            step++;
            if (random.Next(4) > 0 || !saving.IsCompleted) continue;
            await saving;
            saving = Save(trainer.Deployed.Sequence);
        }

        await saving;
        if (steps is not null) Say($"done {trainer.Deployed.RunId} {trainer.Deployed.Sequence} {trainer.Deployed.Digest:x16}");

        async Task Save(long sequence)
        {
            await trainer.SaveCheckpointAsync(Checkpoint(directory));
            Say($"saved {sequence}");
        }
    }
}
