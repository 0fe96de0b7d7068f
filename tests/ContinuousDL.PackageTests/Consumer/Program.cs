// What an application outside the repository does with the packages: a small model, one step.
using ContinuousDL;
using TorchSharp;
using static TorchSharp.torch;

random.manual_seed(1);
using var model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3));
using var inputs = randn(16, 4);
using var targets = randint(0, 3, [16], dtype: ScalarType.Int64);

using var optimizer = torch.optim.Adam(model.parameters(), 1e-3);
using var criterion = nn.CrossEntropyLoss();
using var outputs = model.forward(inputs);
using var loss = criterion.forward(outputs, targets);
loss.backward();
optimizer.step();
Console.WriteLine($"{typeof(ProactiveTrainer).Assembly.GetName().Name} is here");
Console.WriteLine(FormattableString.Invariant($"loss {loss.item<float>()}, {model.parameters().Sum(p => p.numel())} coordinates"));
