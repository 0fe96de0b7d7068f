// What an application outside the repository does with the packages: a small model, one step of the trainer.
using ContinuousDL;
using TorchSharp;
using static TorchSharp.torch;

random.manual_seed(1);
using var model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3));
using var inputs = randn(16, 4);
using var targets = randint(0, 3, [16], dtype: ScalarType.Int64);

using var trainer = new ProactiveTrainer(
    model,
    nn.CrossEntropyLoss(),
    optim.Adam(model.parameters(), 1e-3),
    new ProactiveTrainerOptions { BatchSize = 32, TriggerSize = 8 });
trainer.Observe(inputs, targets);
using var result = trainer.Step();
Console.WriteLine(FormattableString.Invariant($"loss {result.Loss}, {result.CoordinatesChanged} coordinates"));
