using System.Buffers;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using ContinuousDL.Parameters;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Deployment;

/// <summary>A replica is the trainer's deployed model, or says why it isn't; and answers while it changes.</summary>
public class ModelReplicaTests
{
    [Test]
    public void Apply_in_order_takes_each_update_once()
    {
        using var trainer = new Trainer();
        using var replica = trainer.MakeReplica();
        using var first = trainer.Step();
        using var second = trainer.Step();
        replica.Apply(first.Update!).Should().BeTrue();
        replica.Apply(first.Update!).Should().BeFalse("it has that state already");
        replica.Apply(second.Update!).Should().BeTrue();
        replica.Apply(first.Update!).Should().BeFalse();
        replica.Sequence.Should().Be(2);
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void A_gap_is_refused_and_changes_nothing()
    {
        using var trainer = new Trainer();
        using var replica = trainer.MakeReplica();
        using var first = trainer.Step();
        using var second = trainer.Step();
        var digest = replica.Digest;
        replica.Invoking(r => r.Apply(second.Update!)).Should().Throw<UpdateGapException>()
            .Where(e => e.ReplicaSequence == 0 && e.UpdateBaseSequence == 1);
        replica.Digest.Should().Be(digest);
        replica.Verify().Should().BeTrue();
        replica.Apply(first.Update!).Should().BeTrue();
        replica.Apply(second.Update!).Should().BeTrue();
    }

    [Test]
    public void A_replica_that_has_drifted_refuses_the_next_update_of_a_drifted_coordinate()
    {
        using var trainer = new Trainer(density: 1);
        using var replica = TestReplicas.Make(TestModels.WithBatchNorm, trainer.Proactive.CreateSnapshot(), out var copies);
        using (no_grad())
        {
            foreach (var copy in copies) copy.parameters().First()[0, 0] = 0.123f;
        }

        replica.Verify().Should().BeFalse();
        using var update = trainer.Step();
        for (var attempt = 0; attempt < 2; attempt++)
        {
            replica.Invoking(r => r.Apply(update.Update!)).Should().Throw<ReplicaDivergedException>();
            replica.Sequence.Should().Be(0);
        }
    }

    [TestCase(0)]
    [TestCase(1)]
    public void A_copy_that_has_drifted_is_noticed_when_it_is_to_be_written_and_right_again_when_it_answers(int drifted)
    {
        using var trainer = new Trainer(density: 1);
        using var replica = TestReplicas.Make(TestModels.WithBatchNorm, trainer.Proactive.CreateSnapshot(), out var copies);
        using (no_grad())
        {
            copies[drifted].parameters().First()[0, 0] = 0.123f;
        }

        using var first = trainer.Step();
        using var second = trainer.Step();
        if (drifted == 1)
        {
            replica.Invoking(r => r.Apply(first.Update!)).Should().Throw<ReplicaDivergedException>();
            return;
        }

        replica.Apply(first.Update!).Should().BeTrue();
        replica.Apply(second.Update!).Should().BeTrue();
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void A_refused_update_leaves_nothing_to_catch_up_with()
    {
        using var trainer = new Trainer(density: 0.2);
        using var replica = trainer.MakeReplica();
        for (var step = 0; step < 6; step++)
        {
            using var result = trainer.Step();
            using var wrong = WithDigest(result.Update!, result.Update!.StateDigest + 1);
            replica.Invoking(r => r.Apply(wrong)).Should().Throw<ReplicaDivergedException>();
            replica.Verify().Should().BeTrue();
            replica.Apply(result.Update!).Should().BeTrue();
            replica.Digest.Should().Be(result.Update!.StateDigest);
            replica.Verify().Should().BeTrue();
        }
    }

    [Test]
    public void A_write_that_fails_half_way_leaves_the_replica_as_it_was_and_can_be_tried_again([Values] bool messages)
    {
        var failures = 0;
        using var trainer = new Trainer(density: 0.2);
        using var replica = trainer.MakeReplica(new FailingAccessProvider(() => failures-- > 0));
        var codec = new UpdateCodec();
        for (var step = 0; step < 6; step++)
        {
            using var result = trainer.Step();
            var message = codec.Encode(result.Update!);
            failures = step % 3;
            while (failures > 0)
            {
                FluentActions.Invoking(Apply).Should().Throw<IOException>();
                replica.Sequence.Should().Be(step);
                replica.Verify().Should().BeTrue();
            }

            Apply();
            replica.Digest.Should().Be(result.Update!.StateDigest);
            replica.Verify().Should().BeTrue();

            bool Apply() => messages ? replica.Apply(message, codec) : replica.Apply(result.Update!);
        }
    }

    [Test]
    public void Another_architecture_is_refused_and_the_first_difference_named()
    {
        using var trainer = new Trainer();
        Action make = () => _ = new ModelReplica<Sequential>(() => TestModels.Mlp(), trainer.Proactive.CreateSnapshot());
        make.Should().Throw<ModelMismatchException>().WithMessage("*norm.weight*output.weight*");

        using var other = new ModelReplica<Sequential>(() => TestModels.Mlp(), ModelSnapshot.Of(TestModels.Mlp()));
        using var update = trainer.Step();
        other.Invoking(r => r.Apply(update.Update!)).Should().Throw<ModelMismatchException>();
    }

    [Test]
    public void A_factory_that_returns_the_same_module_is_refused()
    {
        using var model = TestModels.Mlp();
        Action make = () => _ = new ModelReplica<Sequential>(() => model, ModelSnapshot.Of(model));
        make.Should().Throw<ArgumentException>().WithMessage("*new module*");
    }

    [Test]
    public void A_replica_can_start_from_another_replica()
    {
        using var trainer = new Trainer();
        using var replica = trainer.MakeReplica();
        for (var step = 0; step < 5; step++) replica.Apply(trainer.Step().Update!);
        using var late = new ModelReplica<Sequential>(TestModels.WithBatchNorm, replica.CreateSnapshot());
        late.Sequence.Should().Be(5);
        var update = trainer.Step().Update!;
        late.Apply(update);
        replica.Apply(update);
        late.Digest.Should().Be(replica.Digest).And.Be(trainer.Proactive.Deployed.Digest);
        late.Verify().Should().BeTrue();
    }

    [Test]
    public void Restore_takes_over_any_state_and_follows_its_run_from_there()
    {
        using var trainer = new Trainer();
        using var other = new Trainer();
        using var replica = trainer.MakeReplica();
        for (var i = 0; i < 3; i++)
        {
            using var step = trainer.Step();
            replica.Apply(step.Update!);
        }

        using (other.Step())
        {
        }

        replica.Restore(other.Proactive.CreateSnapshot());
        replica.Sequence.Should().Be(1, "a snapshot of an earlier sequence is taken over too");
        replica.RunId.Should().Be(other.Proactive.Deployed.RunId);
        for (var i = 0; i < 3; i++)
        {
            using var step = other.Step();
            replica.Apply(step.Update!).Should().BeTrue();
            replica.Verify().Should().BeTrue();
        }

        replica.Digest.Should().Be(other.Proactive.Deployed.Digest);
        using var foreign = trainer.Step();
        replica.Invoking(r => r.Apply(foreign.Update!)).Should().Throw<RunMismatchException>();
    }

    [Test]
    public void Restore_with_another_architecture_changes_nothing()
    {
        using var trainer = new Trainer();
        using var replica = trainer.MakeReplica();
        using var other = TestModels.Mlp();
        replica.Invoking(r => r.Restore(ModelSnapshot.Of(other))).Should().Throw<ModelMismatchException>();
        replica.Digest.Should().Be(trainer.Proactive.Deployed.Digest);
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void A_replica_of_a_module_by_itself_follows_the_first_run_that_it_meets()
    {
        using var trainer = new Trainer();
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, ModelSnapshot.Of(trainer.Model));
        replica.RunId.Should().Be(Guid.Empty);
        using var step = trainer.Step();
        replica.Apply(step.Update!).Should().BeTrue();
        replica.RunId.Should().Be(trainer.Proactive.Deployed.RunId);
    }

    [Test]
    public void A_disposed_update_or_replica_is_refused()
    {
        using var trainer = new Trainer();
        var replica = trainer.MakeReplica();
        var first = trainer.Step();
        first.Dispose();
        replica.Invoking(r => r.Apply(first.Update!)).Should().Throw<ObjectDisposedException>();
        replica.Verify().Should().BeTrue();
        replica.Dispose();
        replica.Dispose();
        replica.Invoking(r => r.Acquire()).Should().Throw<ObjectDisposedException>();
    }

    [Test]
    [Category("Slow")]
    public void Every_prediction_comes_from_exactly_one_sequence_while_updates_are_applied()
    {
        const int updates = 200;
        using var trainer = new Trainer(density: 0.3);
        using var replica = trainer.MakeReplica();
        using var input = TestModels.Arrivals(3, 5).Inputs;
        var expected = new Dictionary<long, byte[]>();
        var results = new List<StepResult>();
        Expect(0);
        for (var s = 1; s <= updates; s++)
        {
            results.Add(trainer.Step());
            Expect(s);
        }

        using var done = new CancellationTokenSource();
        using var started = new CountdownEvent(3);
        var readers = Enumerable.Range(0, 3).Select(_ => Task.Run(() =>
        {
            var seen = new HashSet<long>();
            while (!done.IsCancellationRequested)
            {
                using var guard = no_grad();
                using var lease = replica.Acquire();
                using var output = lease.Model.call(input);
                if (!TestModels.Bytes(output).AsSpan().SequenceEqual(expected[lease.Sequence])) throw new InvalidOperationException($"Half an update at {lease.Sequence}.");
                if (seen.Add(lease.Sequence) && seen.Count == 1) started.Signal();
            }

            return seen;
        })).ToArray();
        started.Wait();
        foreach (var result in results)
        {
            replica.Apply(result.Update!);
            Thread.Yield();
        }

        done.Cancel();
        Task.WaitAll(readers);
        replica.Sequence.Should().Be(updates);
        replica.Verify().Should().BeTrue();
        readers.SelectMany(r => r.Result).Should().NotBeEmpty();

        void Expect(long sequence)
        {
            using var output = trainer.Proactive.Predict(input);
            expected[sequence] = TestModels.Bytes(output);
        }
    }

    [TestCase(BufferDeploymentMode.EveryUpdate)]
    [TestCase(BufferDeploymentMode.Periodic)]
    [TestCase(BufferDeploymentMode.LargestChange)]
    public void Buffers_are_deployed_as_the_options_say_and_outputs_are_bit_identical(BufferDeploymentMode mode)
    {
        using var trainer = new Trainer(density: 0.02, buffers: new BufferDeploymentOptions { Mode = mode, Interval = 5, Count = 4 });
        using var replica = trainer.MakeReplica();
        using var input = TestModels.Arrivals(3, 5).Inputs;
        var firstBuffer = replica.Layout.Entries.First(e => e.Kind == CoordinateKind.Buffer).Offset;
        for (var step = 1; step <= 40; step++)
        {
            using var result = trainer.Step();
            var buffers = result.Update!.Coordinates.ToArray().Count(c => c >= firstBuffer);
            switch (mode)
            {
                case BufferDeploymentMode.EveryUpdate: buffers.Should().BeGreaterThan(16); break;
                case BufferDeploymentMode.Periodic: buffers.Should().Match(b => step % 5 == 0 ? b > 16 : b == 0); break;
                default: buffers.Should().Be(4); break;
            }

            replica.Apply(result.Update);
            using var expected = trainer.Proactive.Predict(input);
            using var actual = replica.Predict(input);
            TestModels.Bytes(actual).Should().Equal(TestModels.Bytes(expected));
        }

        replica.Verify().Should().BeTrue();
        replica.Digest.Should().Be(trainer.Proactive.Deployed.Digest);
    }

    [Test]
    public void Predicting_with_the_deployed_model_leaves_the_trained_one_as_it_was()
    {
        using var trainer = new Trainer(strategy: new ReplicaDifference(new TopKCompressor(0.01)), buffers: new BufferDeploymentOptions { Mode = BufferDeploymentMode.Periodic });
        for (var step = 0; step < 10; step++) trainer.Step().Dispose();
        var state = TestModels.State(trainer.Model);
        using var input = TestModels.Arrivals(3, 5).Inputs;
        using var output = trainer.Proactive.Predict(input);
        TestModels.State(trainer.Model).Should().Equal(state);
        trainer.Model.training.Should().BeTrue();
        using var replica = trainer.MakeReplica();
        using var other = replica.Predict(input);
        TestModels.Bytes(other).Should().Equal(TestModels.Bytes(output));
    }

    /// <summary>The same update, but for the digest that it says it leads to.</summary>
    private static ModelUpdate WithDigest(ModelUpdate update, ulong digest)
    {
        var (coordinates, values) = (ArrayPool<int>.Shared.Rent(update.Count), ArrayPool<byte>.Shared.Rent(update.Values.Length));
        update.Coordinates.CopyTo(coordinates);
        update.Values.CopyTo(values);
        return new ModelUpdate(
            new UpdateIdentity(update.RunId, update.BaseSequence, update.Sequence, update.Layout, digest), update.Count, false, coordinates, values, [], update.Values.Length);
    }

    private sealed class FailingAccessProvider(Func<bool> fails) : ITensorAccessProvider
    {
        public ITensorAccess? TryCreate(ModelTensors tensors, ITensorAccess? twin) => new FailingAccess(tensors, fails);
    }

    /// <summary>Main memory, to which a write may fail when half of it is done.</summary>
    private sealed class FailingAccess(ModelTensors tensors, Func<bool> fails) : ITensorAccess
    {
        private readonly ITensorAccess host = tensors;

        public ModelLayout Layout => host.Layout;

        public ulong ComputeDigest() => host.ComputeDigest();

        public void Read(ReadOnlySpan<int> coordinates, Span<byte> values) => host.Read(coordinates, values);

        public void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values) => host.Write(coordinates, values);

        public void ReadRange(int tensor, int start, Span<byte> values) => host.ReadRange(tensor, start, values);

        public void WriteRange(int tensor, int start, ReadOnlySpan<byte> values) => host.WriteRange(tensor, start, values);

        public void Write(ModelUpdate update)
        {
            if (fails())
            {
                // Parameters come first, and are of four bytes.
                var half = update.Count / 2;
                host.Write(update.Coordinates[..half], update.Values[..(4 * half)]);
                throw new IOException("half way");
            }

            host.Write(update);
        }

        public void CatchUp(ModelUpdate update, ITensorAccess source) => host.Write(update);

        public void CopyFrom(ITensorAccess source) => host.CopyFrom(source is FailingAccess other ? other.host : source);

        public void Dispose() => host.Dispose();
    }

    /// <summary>A trainer on a stream.</summary>
    private sealed class Trainer : IDisposable
    {
        private int steps;

        public Trainer(double density = 0.05, IDeploymentStrategy? strategy = null, BufferDeploymentOptions? buffers = null)
        {
            random.manual_seed(1);
            Model = TestModels.WithBatchNorm();
            Proactive = new ProactiveTrainer(
                Model,
                nn.CrossEntropyLoss(),
                new FusedAdam(Model.parameters(), 0.01),
                new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4, Density = density, Buffers = buffers ?? new() },
                new ProactiveTrainerComponents { Strategy = strategy });
        }

        public Sequential Model { get; }

        public ProactiveTrainer Proactive { get; }

        public ModelReplica<Sequential> MakeReplica(ITensorAccessProvider? tensorAccess = null) =>
            new(TestModels.WithBatchNorm, Proactive.CreateSnapshot(), tensorAccess);

        public StepResult Step()
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, steps++);
            return Proactive.Step(inputs, targets);
        }

        public void Dispose()
        {
            Proactive.Dispose();
            Model.Dispose();
        }
    }
}
