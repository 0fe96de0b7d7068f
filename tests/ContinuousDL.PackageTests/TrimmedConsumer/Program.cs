// What a trimmed application does with the package: a snapshot that is saved and loaded, and updates that a replica follows.
using System.Text.Json;
using ContinuousDL;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

random.manual_seed(1);
using var model = new Classifier();
using var loss = nn.CrossEntropyLoss();
using var optimizer = new FusedAdam(model.parameters(), 1e-3);
using var trainer = new ProactiveTrainer(model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 32, TriggerSize = 8, Density = 0.1 });
var file = Path.Combine(Path.GetTempPath(), $"{Guid.NewGuid():N}.safetensors");
trainer.CreateSnapshot().Save(file);
using var replica = new ModelReplica<Classifier>(() => new Classifier(), ModelSnapshot.Load(file));
File.Delete(file);
var codec = new UpdateCodec();
for (var step = 0; step < 5; step++)
{
    using var scope = NewDisposeScope();
    using var result = trainer.Step(randn(16, 4), randint(0, 3, [16], dtype: ScalarType.Int64));
    replica.Apply(codec.Encode(result.Update!), codec);
}

string refusal;
try
{
    using var wrong = new ProactiveTrainer(model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 0 });
    refusal = "none";
}
catch (ArgumentException e)
{
    refusal = e.Message;
}

Console.WriteLine($"refused: {refusal}");
Console.WriteLine(FormattableString.Invariant($"reflection {JsonSerializer.IsReflectionEnabledByDefault}, sequence {replica.Sequence}, identical {replica.Verify() && replica.Digest == trainer.Deployed.Digest}"));

/// <summary>A module whose layers TorchSharp finds by reflection on its fields.</summary>
internal sealed class Classifier : nn.Module<Tensor, Tensor>
{
    private readonly Linear hidden = nn.Linear(4, 8);
    private readonly BatchNorm1d norm = nn.BatchNorm1d(8);
    private readonly Linear output = nn.Linear(8, 3);

    public Classifier()
        : base(nameof(Classifier)) => RegisterComponents();

    public override Tensor forward(Tensor input)
    {
        using var first = hidden.forward(input);
        using var normal = norm.forward(first);
        using var active = nn.functional.relu(normal);
        return output.forward(active);
    }
}
