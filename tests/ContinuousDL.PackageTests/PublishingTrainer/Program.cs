using ContinuousDL;
using ContinuousDL.Replication.UpdateLogs;
using TorchSharp;
using static TorchSharp.torch;

// A trainer that keeps its updates in a folder, for replicas in other processes.

random.manual_seed(1);
using var model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3));
using var trainer = new ProactiveTrainer(
    model,
    nn.CrossEntropyLoss(),
    optim.Adam(model.parameters(), 1e-2),
    new ProactiveTrainerOptions { BatchSize = 32, TriggerSize = 8, Density = 0.1 });
using var log = UpdateLog.Open(args[0]);
log.WriteSnapshot(trainer.CreateSnapshot());
for (var step = 0; step < 20; step++)
{
    using var scope = NewDisposeScope();
    using var result = trainer.Step(randn(8, 4), randint(0, 3, [8], dtype: ScalarType.Int64));
    log.Append(result.Update!);
}

Console.WriteLine($"sequence {trainer.Deployed.Sequence}, digest {trainer.Deployed.Digest:x16}");
