using ContinuousDL;
using ContinuousDL.Evaluation;
using ContinuousDL.Replicas;
using ContinuousDL.Sampling;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

// An ordinary TorchSharp loop turned continuous, with a replica that answers while it is trained.
// The task: tell on which side of a slowly turning line a point lies. A model that stands still is soon wrong.

random.manual_seed(1);
using var model = MakeModel();
using var loss = nn.CrossEntropyLoss();
using var optimizer = optim.Adam(model.parameters(), 0.005);

using var trainer = new ProactiveTrainer(
    model, loss, optimizer,
    new ProactiveTrainerOptions { BatchSize = 64, TriggerSize = 8, Density = 0.01 },
    new ProactiveTrainerComponents { Sampler = new WindowSampler(new() { WindowSize = 500 }), Evaluator = new ClassificationEvaluator() });
using var replica = new ModelReplica<Sequential>(MakeModel, trainer.CreateSnapshot());

// The replica serves on a thread of its own, all the time.
using var stop = new CancellationTokenSource();
var served = Task.Run(() =>
{
    var (answers, sequences) = (0, new HashSet<long>());
    using var question = randn(1, 2);
    while (!stop.IsCancellationRequested)
    {
        using var answer = replica.Predict(question);
        sequences.Add(replica.Sequence);
        answers++;
    }

    return (answers, sequences.Count);
});

var bytes = 0L;
for (var step = 1; step <= 2000; step++)
{
    using var scope = NewDisposeScope();
    var inputs = randn(8, 2);
    var angle = step * Math.PI / 2000;
    var direction = tensor(new[] { (float)Math.Cos(angle), (float)Math.Sin(angle) });
    var targets = inputs.matmul(direction).signbit().to(ScalarType.Int64);

    if (!trainer.Observe(inputs, targets).IsStepDue) continue;
    using var result = trainer.Step();
    replica.Apply(result.Update!);
    bytes += result.Update!.SizeInBytes;
    if (step % 400 == 0) Console.WriteLine($"{step,5} steps: accuracy {trainer.Evaluator.Summary.Accuracy!.Value.Window:P1} of the last 1,000, {bytes / step} bytes per update");
}

stop.Cancel();
var (count, seen) = served.Result;
Console.WriteLine($"The replica gave {count:N0} answers from {seen:N0} states meanwhile. It is identical to the trainer: {replica.Verify() && replica.Digest == trainer.Deployed.Digest}.");

static Sequential MakeModel() => nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2));
