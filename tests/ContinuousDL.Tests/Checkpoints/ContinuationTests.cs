using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Evaluation;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Checkpoints;

/// <summary>A trainer whose replicas have another state than it has itself, and one that goes back to an older state.</summary>
public class ContinuationTests
{
    private static readonly string[] Strategies = ["update compression", "look-ahead", "gradient compression", "replica difference", "dense"];

    private string folder = "";

    private string Path => System.IO.Path.Combine(folder, "trainer.checkpoint");

    [SetUp]
    public void MakeFolder()
    {
        random.manual_seed(1);
        folder = Directory.CreateTempSubdirectory("continuation-").FullName;
    }

    [TearDown]
    public void DeleteFolder() => Directory.Delete(folder, recursive: true);

    [TestCaseSource(nameof(Strategies))]
    public void ContinueFrom_brings_replicas_that_are_ahead_of_a_restored_trainer_to_its_state_under_a_new_sequence(string strategy)
    {
        using var scope = NewDisposeScope();
        using var lost = Make(strategy);
        using var replica = new ModelReplica<nn.Module<Tensor, Tensor>>(TestModels.WithBatchNorm, lost.CreateSnapshot());
        Step(lost, replica, 0, 4);
        lost.SaveCheckpoint(Path);
        Step(lost, replica, 100, 3);
        replica.Sequence.Should().Be(7);

        using var trainer = Make(strategy, Path, arrived: 4);
        using (var update = trainer.ContinueFrom(replica.CreateSnapshot()))
        {
            (update!.BaseSequence, update.Sequence, update.RunId).Should().Be((7, 8, lost.Deployed.RunId));
            replica.Apply(update).Should().BeTrue();
        }

        trainer.Deployed.Sequence.Should().Be(8);
        replica.Digest.Should().Be(trainer.Deployed.Digest);
        Step(trainer, replica, 200, 5);
        (replica.Sequence, replica.Verify()).Should().Be((13, true));
        replica.Digest.Should().Be(trainer.Deployed.Digest);
    }

    [Test]
    public void ContinueFrom_the_very_state_gives_no_update_and_changes_no_sequence()
    {
        using var scope = NewDisposeScope();
        using var trainer = Make("look-ahead");
        Step(trainer, null, 0, 3);

        trainer.ContinueFrom(trainer.CreateSnapshot()).Should().BeNull();

        trainer.Deployed.Sequence.Should().Be(3);
    }

    [Test]
    public void ContinueFrom_the_same_values_at_a_later_sequence_takes_over_the_sequence()
    {
        using var scope = NewDisposeScope();
        using var trainer = Make("look-ahead");
        Step(trainer, null, 0, 3);
        var ahead = Renumbered(trainer.CreateSnapshot(), trainer.Deployed.RunId, 9);

        trainer.ContinueFrom(ahead).Should().BeNull();

        trainer.Deployed.Sequence.Should().Be(9);
    }

    [Test]
    public void ContinueFrom_an_earlier_sequence_leads_to_the_trainers_own()
    {
        using var scope = NewDisposeScope();
        using var trainer = Make("look-ahead");
        using var replica = new ModelReplica<nn.Module<Tensor, Tensor>>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        Step(trainer, replica, 0, 2);
        Step(trainer, null, 2, 3);

        using var update = trainer.ContinueFrom(replica.CreateSnapshot());

        (update!.BaseSequence, update.Sequence).Should().Be((2, 5));
        replica.Apply(update);
        (replica.Digest, trainer.Deployed.Sequence).Should().Be((trainer.Deployed.Digest, 5));
    }

    [Test]
    public void ContinueFrom_the_same_sequence_with_other_values_does_not_use_it_again()
    {
        using var scope = NewDisposeScope();
        using var trainer = Make("look-ahead");
        using var other = Make("look-ahead");
        Step(trainer, null, 0, 3);
        Step(other, null, 50, 3);
        var replicas = Renumbered(other.CreateSnapshot(), trainer.Deployed.RunId, 3);

        using var update = trainer.ContinueFrom(replicas);

        (update!.BaseSequence, update.Sequence, update.StateDigest).Should().Be((3, 4, trainer.Deployed.Digest));
    }

    [Test]
    public void ContinueFrom_another_run_is_for_trainers_that_made_no_update_yet()
    {
        using var scope = NewDisposeScope();
        using var lost = Make("look-ahead");
        using var replica = new ModelReplica<nn.Module<Tensor, Tensor>>(TestModels.WithBatchNorm, lost.CreateSnapshot());
        Step(lost, replica, 0, 3);

        using var trainer = Make("look-ahead");
        using var update = trainer.ContinueFrom(replica.CreateSnapshot());
        (update!.RunId, update.Sequence).Should().Be((lost.Deployed.RunId, 4));
        replica.Apply(update);
        Step(trainer, replica, 10, 2);
        replica.Digest.Should().Be(trainer.Deployed.Digest);

        using var third = Make("look-ahead");
        Step(third, null, 0, 1);
        third.Invoking(t => t.ContinueFrom(replica.CreateSnapshot())).Should().Throw<RunMismatchException>();
        third.Deployed.Sequence.Should().Be(1);
    }

    [Test]
    public void ContinueFrom_and_RollBackTo_a_model_of_another_architecture_are_refused()
    {
        using var scope = NewDisposeScope();
        using var trainer = Make("look-ahead");
        var other = ModelSnapshot.Of(TestModels.Mlp());
        trainer.Invoking(t => t.ContinueFrom(other)).Should().Throw<ModelMismatchException>();
        trainer.Invoking(t => t.RollBackTo(other)).Should().Throw<ModelMismatchException>();
    }

    [Test]
    public void RollBackTo_restores_an_older_state_exactly_and_owes_nothing(
        [ValueSource(nameof(Strategies))] string strategy, [Values("fused sgd", "fused adam", "adam", "sgd")] string optimizer)
    {
        using var scope = NewDisposeScope();
        using var trainer = Make(strategy, optimizer: optimizer);
        using var replica = new ModelReplica<nn.Module<Tensor, Tensor>>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        Step(trainer, replica, 0, 3);
        var older = trainer.CreateSnapshot();
        Step(trainer, replica, 3, 4);

        using (var update = trainer.RollBackTo(older))
        {
            (update.BaseSequence, update.Sequence, update.StateDigest).Should().Be((7, 8, older.StateDigest));
            replica.Apply(update).Should().BeTrue();
        }

        (replica.Digest, replica.Verify(), trainer.Deployed.Digest).Should().Be((older.StateDigest, true, older.StateDigest));
        trainer.CreateSnapshot().StateDigest.Should().Be(older.StateDigest);

        // From there it trains as one that starts at that state: nothing is left of what was owed, nor of the moments.
        using var fresh = Make(strategy, optimizer: optimizer, start: older);
        random.manual_seed(2);
        var first = Step(trainer, replica, 20, 3);
        replica.Digest.Should().Be(trainer.Deployed.Digest);
        random.manual_seed(2);
        Step(fresh, null, 20, 3).Should().Equal(first);
    }

    /// <summary>Steps on its arrivals alone, so that a history before them makes no difference.</summary>
    private static List<ulong> Step(ProactiveTrainer trainer, ModelReplica<nn.Module<Tensor, Tensor>>? replica, int first, int count)
    {
        var digests = new List<ulong>();
        for (var i = first; i < first + count; i++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, i);
            using var result = trainer.Step(inputs, targets);
            replica?.Apply(result.Update!);
            digests.Add(result.Update!.StateDigest);
        }

        return digests;
    }

    private static ModelSnapshot Renumbered(ModelSnapshot snapshot, Guid runId, long sequence) => new(
        snapshot.Layout, [.. Enumerable.Range(0, snapshot.Layout.Entries.Count).Select(i => snapshot.Values(i).ToArray())], runId, sequence);

    private static ProactiveTrainer Make(string strategy, string? checkpoint = null, int arrived = 0, string optimizer = "fused adam", ModelSnapshot? start = null)
    {
        var model = TestModels.WithBatchNorm();
        start?.CopyTo(model);
        var history = new InMemorySampleHistory();
        for (var i = 0; i < arrived; i++)
        {
            var (inputs, targets) = TestModels.Arrivals(8, i);
            history.Append(inputs, targets);
        }

        optim.Optimizer rule = optimizer switch
        {
            "fused sgd" => new FusedSgd(model.parameters(), 0.05, momentum: 0.9),
            "fused adam" => new FusedAdam(model.parameters(), 0.01, amsGrad: true),
            "adam" => optim.Adam(model.parameters(), 0.01),
            _ => optim.SGD(model.parameters(), 0.05, momentum: 0.9),
        };
        var components = new ProactiveTrainerComponents
        {
            History = history,
            Evaluator = new LossEvaluator(),
            Strategy = strategy switch
            {
                "update compression" => new UpdateCompression(new TopKCompressor(0.05)),
                "look-ahead" => new UpdateCompression(new TopKCompressor(0.05), lookahead: 0.5),
                "gradient compression" => new GradientCompression(new TopKCompressor(0.05)),
                "replica difference" => new ReplicaDifference(new TopKCompressor(0.05)),
                _ => new DenseDeployment(),
            },
        };
        var options = new ProactiveTrainerOptions { BatchSize = 8, TriggerSize = 8 };
        return checkpoint is null
            ? new ProactiveTrainer(model, nn.CrossEntropyLoss(), rule, options, components)
            : ProactiveTrainer.Restore(checkpoint, model, nn.CrossEntropyLoss(), rule, options, components);
    }
}
