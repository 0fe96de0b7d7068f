using System.Buffers.Binary;
using System.IO.Hashing;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Wire;

/// <summary>Replicas that follow a trainer by messages are the trainer's deployed model, whatever its options.</summary>
public class ReplicaMessageTests
{
    private static readonly UpdateCodec Codec = new();

    [Test]
    public void A_replica_follows_by_messages([Values] DeployedValuePrecision precision, [Values(0.02, 0.5, 1)] double density)
    {
        using var model = TestModels.WithBatchNorm();
        using var trainer = Trainer(model, density, precision);
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        for (var step = 0; step < 20; step++)
        {
            var message = Step(trainer, step);
            UpdateCodec.ReadHeader(message).ValuePrecision.Should().Be(precision);
            replica.Apply(message, Codec).Should().BeTrue();
            replica.Digest.Should().Be(trainer.Deployed.Digest);
        }

        replica.Verify().Should().BeTrue();
        replica.RunId.Should().Be(trainer.Deployed.RunId);
    }

    [Test]
    public void A_replica_follows_whole_updates_by_messages()
    {
        using var model = TestModels.WithBatchNorm();
        using var trainer = Trainer(model, 1, DeployedValuePrecision.Float32, new DenseDeployment());
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        for (var step = 0; step < 3; step++) replica.Apply(Step(trainer, step), Codec).Should().BeTrue();
        replica.Verify().Should().BeTrue();
        replica.Digest.Should().Be(trainer.Deployed.Digest);
    }

    [Test]
    public void A_replica_of_a_module_by_itself_learns_the_run_from_the_first_message_and_no_later_one()
    {
        using var model = TestModels.WithBatchNorm();
        using var trainer = Trainer(model, 0.1, DeployedValuePrecision.Float32);
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, ModelSnapshot.Of(model));
        var (first, second) = (Step(trainer, 0), Step(trainer, 1));
        replica.Invoking(r => r.Apply(second, Codec)).Should().Throw<RunMismatchException>();
        replica.Apply(first, Codec).Should().BeTrue();
        replica.RunId.Should().Be(trainer.Deployed.RunId);
        replica.Apply(second, Codec).Should().BeTrue();
    }

    [Test]
    public void A_message_for_another_architecture_is_refused()
    {
        using var model = TestModels.WithBatchNorm();
        using var trainer = Trainer(model, 0.1, DeployedValuePrecision.Float32);
        using var replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), ModelSnapshot.Of(TestModels.Mlp()));
        var message = Step(trainer, 0);
        replica.Invoking(r => r.Apply(message, Codec)).Should().Throw<ModelMismatchException>();
    }

    [Test]
    public void A_replica_that_has_drifted_says_so_and_stays_as_it_is([Values(0.123f, 0f, -1e30f, float.NaN)] float value, [Range(1, 5)] int seed)
    {
        random.manual_seed(seed);
        using var model = TestModels.WithBatchNorm();
        using var trainer = Trainer(model, 1, DeployedValuePrecision.Float32, new UpdateCompression(new TopKCompressor(1.0)));
        using var replica = TestReplicas.Make(TestModels.WithBatchNorm, trainer.CreateSnapshot(), out var copies);
        using (no_grad())
        {
            foreach (var copy in copies) copy.parameters().First()[0, ..] = value;
        }

        var message = Step(trainer, 0);
        replica.Invoking(r => r.Apply(message, Codec)).Should().Throw<ReplicaDivergedException>();
        replica.Sequence.Should().Be(0);
    }

    [Test]
    public void A_message_that_makes_no_sense_with_the_right_values_is_not_taken_for_drift()
    {
        random.manual_seed(1);
        using var model = TestModels.WithBatchNorm();
        using var trainer = Trainer(model, 1, DeployedValuePrecision.Float32, new UpdateCompression(new TopKCompressor(1.0)));
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot());

        // Without its last value, but with the right checksum.
        var message = Step(trainer, 0)[..^1];
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(^4), (uint)XxHash3.HashToUInt64(message.AsSpan(..^4)));
        replica.Invoking(r => r.Apply(message, Codec)).Should().Throw<WireFormatException>();
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void Rounded_values_are_what_trainer_and_replica_hold_and_the_rest_stays_owed()
    {
        using var model = TestModels.WithBatchNorm();
        using var trainer = Trainer(model, 1, DeployedValuePrecision.BFloat16, new UpdateCompression(new TopKCompressor(1.0)));
        for (var step = 0; step < 5; step++) Step(trainer, step);
        var snapshot = trainer.CreateSnapshot();
        for (var entry = 0; entry < snapshot.Layout.Entries.Count; entry++)
        {
            var isRounded = snapshot.Values(entry).ToArray().Where((_, i) => i % 4 < 2).All(b => b == 0);
            if (snapshot.Layout.Entries[entry] is { Kind: CoordinateKind.Parameter }) isRounded.Should().BeTrue("every coordinate has been changed");
        }
    }

    [TestCase(1.00390625f, 1f)]
    [TestCase(1.01171875f, 1.015625f)]
    [TestCase(-3.4e38f, -3.3895314e38f)]
    public void BFloat16_rounds_to_even_and_to_nothing_infinite(float value, float expected) => DeployedValuePrecision.BFloat16.Round(value).Should().Be(expected);

    [TestCase(2049f, 2048f)]
    [TestCase(1e6f, 65504f)]
    [TestCase(-65520f, -65504f)]
    [TestCase(1e-9f, 0f)]
    public void Float16_rounds_to_even_and_to_nothing_infinite(float value, float expected) => DeployedValuePrecision.Float16.Round(value).Should().Be(expected);

    [Test]
    public void Rounding_does_not_go_with_dense_deployment()
    {
        using var model = TestModels.WithBatchNorm();
        Action make = () => Trainer(model, 1, DeployedValuePrecision.BFloat16, new DenseDeployment());
        make.Should().Throw<ArgumentException>().WithMessage("*DeployedValuePrecision*BFloat16*");
    }

    private static ProactiveTrainer Trainer(Sequential model, double density, DeployedValuePrecision precision, IDeploymentStrategy? strategy = null) => new(
        model,
        nn.CrossEntropyLoss(),
        new FusedAdam(model.parameters(), 0.01),
        new ProactiveTrainerOptions { BatchSize = 16, Density = density, DeployedValuePrecision = precision },
        new ProactiveTrainerComponents { Strategy = strategy });

    private static byte[] Step(ProactiveTrainer trainer, int step)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(4, step);
        using var result = trainer.Step(inputs, targets);
        return Codec.Encode(result.Update!);
    }
}
