// A trainer that is made to be killed: takes in samples, steps, and saves checkpoints until somebody ends it, and says what it
// has done when it is done. Started again in the same directory, it goes on where it was.
//
//   ready END SEQUENCE PENDING   it has opened history and checkpoint
//   kept END                     Observe has returned for all samples before END
//   saved SEQUENCE               a checkpoint of that sequence is on disk
using ContinuousDL;
using ContinuousDL.CrashTest;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using static TorchSharp.torch;

var (directory, random) = (args[0], new Random(int.Parse(args[1])));
var saying = new Lock();
var checkpoint = Path.Combine(directory, "trainer.checkpoint");
set_num_threads(1);

// Whoever started it holds the other end: when that one is gone, nobody would end this.
_ = Task.Run(() =>
{
    while (Console.In.Read() >= 0)
    {
    }

    Environment.Exit(0);
});

using var model = nn.Sequential(("hidden", nn.Linear(CrashSamples.Features, 16)), ("relu", nn.ReLU()), ("output", nn.Linear(16, CrashSamples.Classes)));
using var loss = nn.CrossEntropyLoss();
using var optimizer = new FusedAdam(model.parameters());

// Small files, so that the process is also killed while one is begun.
var history = new MappedSampleHistory(Path.Combine(directory, "samples"), new() { SegmentBytes = 4 << 10 });
var options = new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4, Density = 0.05 };
var components = new ProactiveTrainerComponents { History = history };
using var trainer = File.Exists(checkpoint)
    ? ProactiveTrainer.Restore(checkpoint, model, loss, optimizer, options, components)
    : new ProactiveTrainer(model, loss, optimizer, options, components);

// From the first sample on there is a checkpoint that counts it as new.
if (!File.Exists(checkpoint)) trainer.SaveCheckpoint(checkpoint);
Say($"ready {history.EndIndex} {trainer.Deployed.Sequence} {trainer.PendingSamples}");

var saving = Task.CompletedTask;
while (true)
{
    using var scope = NewDisposeScope();
    var (inputs, targets) = CrashSamples.Make(history.EndIndex, random.Next(1, 9));
    var observed = trainer.Observe(inputs, targets);
    Say($"kept {history.EndIndex}");
    if (!observed.IsStepDue) continue;
    trainer.Step().Dispose();
    if (random.Next(4) > 0 || !saving.IsCompleted) continue;
    await saving;
    saving = Save(trainer.Deployed.Sequence);
}

async Task Save(long sequence)
{
    await trainer.SaveCheckpointAsync(checkpoint);
    Say($"saved {sequence}");
}

void Say(string line)
{
    lock (saying)
    {
        Console.Out.WriteLine(line);
        Console.Out.Flush();
    }
}
