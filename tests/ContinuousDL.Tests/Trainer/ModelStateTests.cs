using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Failures;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Parameters;
using ContinuousDL.Replicas;
using ContinuousDL.Sampling;
using ContinuousDL.Tests.Samples;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>State that a model changes by itself, in training and in eval mode: it is deployed, taken back or refused, and never lost.</summary>
public class ModelStateTests
{
    private static IEnumerable<TestCaseData> Strategies()
    {
        yield return Case("update compression", () => new UpdateCompression(new TopKCompressor(0.1)));
        yield return Case("update compression with look-ahead", () => new UpdateCompression(new TopKCompressor(0.1), lookahead: 0.5));
        yield return Case("gradient compression", () => new GradientCompression(new TopKCompressor(0.1)));
        yield return Case("replica difference", () => new ReplicaDifference(new TopKCompressor(0.1)));
        yield return Case("dense", () => new DenseDeployment());

        static TestCaseData Case(string name, Func<IDeploymentStrategy> make) => new TestCaseData(make).SetArgDisplayNames(name);
    }

    private static IEnumerable<TestCaseData> SpoiledStatistics()
    {
        yield return new TestCaseData(1, 1f).SetArgDisplayNames("one sample, whose variance is not a number");
        yield return new TestCaseData(4, 1e25f).SetArgDisplayNames("a value whose square is infinite");
    }

    [Test]
    public void Running_statistics_that_are_not_finite_refuse_the_step(
        [ValueSource(nameof(SpoiledStatistics))] TestCaseData spoiled, [Values] NonFiniteHandling handling)
    {
        var (count, value) = ((int)spoiled.Arguments[0]!, (float)spoiled.Arguments[1]!);
        random.manual_seed(5);
        using var model = nn.Sequential(("norm", nn.BatchNorm1d(TestModels.Features)), ("output", nn.Linear(TestModels.Features, TestModels.Classes)));
        using var trainer = Make(model, new UpdateCompression(new TopKCompressor(0.1), lookahead: 0.5), nonFinite: handling, onlyNew: true);
        using var replica = new ModelReplica<Sequential>(
            () => nn.Sequential(("norm", nn.BatchNorm1d(TestModels.Features)), ("output", nn.Linear(TestModels.Features, TestModels.Classes))), trainer.CreateSnapshot());
        StepAndApply(trainer, replica, 0);
        var (state, digest) = (TestModels.State(model), trainer.Deployed.Digest);

        var (inputs, targets) = TestModels.Arrivals(count, 9);
        using (inputs)
        using (targets)
        {
            inputs[0, 0] = value;
            if (handling == NonFiniteHandling.Throw)
            {
                trainer.Invoking(t => t.Step(inputs, targets)).Should().Throw<NonFiniteException>().WithMessage("*norm.running_var*").Which.ParameterName.Should().Be("norm.running_var");
            }
            else
            {
                using var result = trainer.Step(inputs, targets);
                result.IsSkipped.Should().BeTrue();
                result.SkipReason.Should().Contain("norm.running_var");
            }
        }

        TestModels.State(model).Should().Equal(state);
        trainer.Deployed.Digest.Should().Be(digest);
        trainer.CreateSnapshot().StateDigest.Should().Be(digest);
        if (handling == NonFiniteHandling.Skip)
        {
            StepAndApply(trainer, replica, 1);
            replica.Verify().Should().BeTrue();
        }
    }

    [Test]
    public void A_buffer_that_holds_infinities_from_the_start_is_no_reason_to_refuse_a_step()
    {
        using var model = new Masked();
        using var trainer = Make(model, new UpdateCompression(new TopKCompressor(0.1)));
        using var replica = new ModelReplica<Masked>(() => new Masked(), trainer.CreateSnapshot());
        for (var step = 0; step < 5; step++) StepAndApply(trainer, replica, step);
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void A_parameter_that_the_forward_pass_averages_reaches_every_replica(
        [ValueSource(nameof(Strategies))] TestCaseData strategy, [Values] bool hasAll)
    {
        using var model = new MeanTeacher();
        using var trainer = Make(model, ((Func<IDeploymentStrategy>)strategy.Arguments[0]!)(), hasAll: hasAll);
        using var replica = new ModelReplica<MeanTeacher>(() => new MeanTeacher(), trainer.CreateSnapshot());
        for (var step = 0; step < 20; step++) StepAndApply(trainer, replica, step);
        AssertIdentical(trainer, replica);
        using var lease = replica.Acquire();
        TestModels.Bytes(lease.Model.slow.weight).Should().Equal(TestModels.Bytes(model.slow.weight));
    }

    [TestCaseSource(nameof(Strategies))]
    public void A_parameter_that_is_averaged_only_after_a_while_reaches_every_replica(Func<IDeploymentStrategy> strategy)
    {
        using var model = new MeanTeacher { WarmUp = 5 };
        using var trainer = Make(model, strategy());
        using var replica = new ModelReplica<MeanTeacher>(() => new MeanTeacher { WarmUp = int.MaxValue }, trainer.CreateSnapshot());
        for (var step = 0; step < 12; step++)
        {
            StepAndApply(trainer, replica, step);
            trainer.CreateSnapshot().StateDigest.Should().Be(replica.Digest);
        }

        AssertIdentical(trainer, replica);
    }

    [TestCaseSource(nameof(Strategies))]
    public void A_parameter_that_its_owner_averages_between_steps_reaches_every_replica(Func<IDeploymentStrategy> strategy)
    {
        using var model = new MeanTeacher { WarmUp = int.MaxValue };
        using var trainer = Make(model, strategy());
        using var replica = new ModelReplica<MeanTeacher>(() => new MeanTeacher { WarmUp = int.MaxValue }, trainer.CreateSnapshot());
        for (var step = 0; step < 12; step++)
        {
            StepAndApply(trainer, replica, step);
            model.Average();
        }

        StepAndApply(trainer, replica, 13);
        AssertIdentical(trainer, replica);
    }

    [TestCase(BufferDeploymentMode.Periodic)]
    [TestCase(BufferDeploymentMode.LargestChange)]
    public void A_moved_parameter_is_deployed_as_the_options_say_for_buffers(BufferDeploymentMode mode)
    {
        using var model = new MeanTeacher();
        using var trainer = Make(
            model, new UpdateCompression(new TopKCompressor(0.1)), buffers: new BufferDeploymentOptions { Mode = mode, Interval = 4, Count = 3 });
        using var replica = new ModelReplica<MeanTeacher>(() => new MeanTeacher(), trainer.CreateSnapshot());
        var slow = replica.Layout.Entries.First(e => e.Name == "slow.weight");
        for (var step = 1; step <= 12; step++)
        {
            using var result = trainer.Step();
            var moved = result.Update!.Coordinates.ToArray().Count(c => c >= slow.Offset && c < slow.End);
            if (mode == BufferDeploymentMode.Periodic) moved.Should().Match(m => step % 4 == 0 ? m > 0 : m == 0);
            else moved.Should().BeInRange(1, 3);
            replica.Apply(result.Update);
        }

        AssertIdentical(trainer, replica);
    }

    [TestCaseSource(nameof(Strategies))]
    public void A_refused_step_takes_a_moved_parameter_back(Func<IDeploymentStrategy> strategy)
    {
        using var model = new MeanTeacher { LimitsWeights = true };
        using var trainer = Make(model, strategy());
        Refuse();
        for (var step = 0; step < 3; step++) trainer.Step().Dispose();
        Refuse();

        void Refuse()
        {
            var state = TestModels.State(model);
            model.Fails = true;
            trainer.Invoking(t => t.Step()).Should().Throw<NonFiniteException>();
            model.Fails = false;
            TestModels.State(model).Should().Equal(state);
        }
    }

    [TestCaseSource(nameof(Strategies))]
    public void A_trainable_parameter_that_the_forward_pass_limits_reaches_every_replica(Func<IDeploymentStrategy> strategy)
    {
        using var model = new MeanTeacher { LimitsWeights = true };
        using var trainer = Make(model, strategy());
        using var replica = new ModelReplica<MeanTeacher>(() => new MeanTeacher(), trainer.CreateSnapshot());
        for (var step = 0; step < 20; step++) StepAndApply(trainer, replica, step);
        AssertIdentical(trainer, replica);
    }

    [Test]
    public void What_a_forward_pass_does_to_the_weights_ahead_is_owed()
    {
        // All is sent at once, and so nothing is owed in the end but what rounding left: the limits hold in the replica.
        using var model = new MeanTeacher { LimitsWeights = true };
        using var trainer = Make(model, new UpdateCompression(new TopKCompressor(1), lookahead: 1), learningRate: 0);
        for (var step = 0; step < 3; step++) trainer.Step().Dispose();
        using var other = new MeanTeacher();
        trainer.CreateSnapshot().CopyTo(other);
        TestModels.Bytes(other.quick.weight).Should().Equal(TestModels.Bytes(model.quick.weight));
        other.quick.weight.abs().max().item<float>().Should().BeLessThanOrEqualTo(MeanTeacher.Limit + 1e-6f);
    }

    [TestCaseSource(nameof(Strategies))]
    public void A_checkpoint_waits_until_what_somebody_wrote_to_a_parameter_is_deployed(Func<IDeploymentStrategy> strategy)
    {
        using var folder = new TemporaryFolder();
        var path = Path.Combine(folder.Path, "checkpoint");
        using var model = new MeanTeacher { WarmUp = int.MaxValue };
        using var trainer = Make(model, strategy());
        trainer.Step().Dispose();
        using (no_grad())
        {
            using Scalar half = 0.5;
            _ = model.quick.weight.mul_(half);
        }

        trainer.Invoking(t => t.SaveCheckpoint(path)).Should().Throw<InvalidOperationException>().WithMessage("*'quick.weight'*");
        trainer.Step().Dispose();
        trainer.SaveCheckpoint(path);
    }

    [TestCaseSource(nameof(Strategies))]
    public void A_restored_trainer_goes_on_with_moved_parameters_to_the_bit(Func<IDeploymentStrategy> strategy)
    {
        using var folder = new TemporaryFolder();
        var path = Path.Combine(folder.Path, "checkpoint");
        using var model = new MeanTeacher { LimitsWeights = true };
        using var trainer = Make(model, strategy());
        for (var step = 0; step < 5; step++) trainer.Step().Dispose();
        trainer.SaveCheckpoint(path);

        using var other = new MeanTeacher { LimitsWeights = true };
        using var optimizer = new FusedAdam([other.quick.weight, other.quick.bias!], 0.05);
        using var restored = ProactiveTrainer.Restore(path, other, nn.CrossEntropyLoss(), optimizer, Options(), Components(strategy(), filled: true));
        TestModels.State(other).Should().Equal(TestModels.State(model));
        for (var step = 0; step < 5; step++)
        {
            using var expected = trainer.Step();
            using var actual = restored.Step();
            actual.Update!.StateDigest.Should().Be(expected.Update!.StateDigest);
            actual.Update.Coordinates.ToArray().Should().Equal(expected.Update.Coordinates.ToArray());
        }
    }

    [Test]
    public void A_large_frozen_parameter_is_neither_copied_nor_read_by_a_step()
    {
        using var model = new MeanTeacher { WarmUp = int.MaxValue };
        using var trainer = Make(model, new UpdateCompression(new TopKCompressor(0.1)));
        trainer.Step().Dispose();
        trainer.Step().Dispose();
        using var stream = new MemoryStream();
        using var state = trainer.CopyState();
        state.Sections.Single(s => s.Name == "deployed model").Length.Should().Be(trainer.Deployed.Layout.Entries.Count, "nothing is kept apart");
    }

    [TestCaseSource(nameof(Strategies))]
    public void Answering_and_observing_change_nothing(Func<IDeploymentStrategy> strategy)
    {
        using var model = new SelfWriting();
        using var trainer = Make(model, strategy());
        using var replica = new ModelReplica<SelfWriting>(() => new SelfWriting(), trainer.CreateSnapshot());
        var (inputs, targets) = TestModels.Arrivals(6, 3);
        using (inputs)
        using (targets)
        {
            for (var step = 0; step < 12; step++)
            {
                var state = TestModels.State(model);
                using var expected = trainer.Predict(inputs);
                using var actual = replica.Predict(inputs);
                TestModels.Bytes(actual).Should().Equal(TestModels.Bytes(expected));
                trainer.Observe(inputs, targets);
                TestModels.State(model).Should().Equal(state);
                trainer.CreateSnapshot().StateDigest.Should().Be(replica.Digest);
                replica.Verify().Should().BeTrue();
                using var result = trainer.Step();
                replica.Apply(result.Update!).Should().BeTrue();
                replica.Verify().Should().BeTrue();
            }
        }
    }

    [Test]
    public void A_parameter_that_an_evaluation_writes_to_unforeseen_is_deployed_with_the_next_update()
    {
        using var model = new MeanTeacher { WarmUp = int.MaxValue };
        using var trainer = Make(model, new UpdateCompression(new TopKCompressor(0.1)));
        using var replica = new ModelReplica<MeanTeacher>(() => new MeanTeacher { WarmUp = int.MaxValue }, trainer.CreateSnapshot());
        using var inputs = TestModels.Arrivals(2, 1).Inputs;
        trainer.Predict(inputs).Dispose();
        model.LimitsInEval = true;
        trainer.Predict(inputs).Dispose();
        model.LimitsInEval = false;
        StepAndApply(trainer, replica, 1);
        AssertIdentical(trainer, replica);
        model.LimitsInEval = true;
        var state = TestModels.State(model);
        trainer.Predict(inputs).Dispose();
        TestModels.State(model).Should().Equal(state);
    }

    [Test]
    public void A_non_persistent_buffer_that_training_changes_is_refused_by_name()
    {
        using var model = new Transient(counts: true);
        using var trainer = Make(model, new UpdateCompression(new TopKCompressor(0.1)));
        var state = TestModels.State(model);
        trainer.Invoking(t => t.Step()).Should().Throw<NonPersistentStateException>().WithMessage("*'scratch'*").Which.BufferName.Should().Be("scratch");
        TestModels.State(model).Should().Equal(state);
        trainer.CreateSnapshot().StateDigest.Should().Be(trainer.Deployed.Digest);
    }

    [TestCase(false, NonPersistentBufferHandling.Refuse)]
    [TestCase(true, NonPersistentBufferHandling.Ignore)]
    public void A_non_persistent_buffer_that_stays_or_is_said_to_be_scratch_is_no_reason_to_refuse(bool counts, NonPersistentBufferHandling handling)
    {
        using var model = new Transient(counts);
        using var trainer = Make(model, new UpdateCompression(new TopKCompressor(0.1)), nonPersistent: handling);
        using var replica = new ModelReplica<Transient>(() => new Transient(counts), trainer.CreateSnapshot());
        for (var step = 0; step < 5; step++) StepAndApply(trainer, replica, step);
        replica.Verify().Should().BeTrue();
    }

    private static ProactiveTrainerOptions Options(
        NonFiniteHandling nonFinite = NonFiniteHandling.Throw, BufferDeploymentOptions? buffers = null, NonPersistentBufferHandling nonPersistent = NonPersistentBufferHandling.Refuse)
    {
        return new ProactiveTrainerOptions
        {
            BatchSize = 8,
            TriggerSize = 1,
            NonFinite = nonFinite,
            Buffers = buffers ?? new BufferDeploymentOptions(),
            NonPersistentBuffers = nonPersistent,
        };
    }

    private static ProactiveTrainerComponents Components(IDeploymentStrategy strategy, bool filled, bool onlyNew = false)
    {
        var history = new InMemorySampleHistory();
        if (filled)
        {
            var (inputs, targets) = TestModels.Arrivals(32, 77);
            using (inputs)
            using (targets) history.Append(inputs, targets);
        }

        return new ProactiveTrainerComponents { Strategy = strategy, History = history, Sampler = onlyNew ? new OnlineSampler() : null };
    }

    private static ProactiveTrainer Make(
        nn.Module<Tensor, Tensor> model,
        IDeploymentStrategy strategy,
        NonFiniteHandling nonFinite = NonFiniteHandling.Throw,
        BufferDeploymentOptions? buffers = null,
        NonPersistentBufferHandling nonPersistent = NonPersistentBufferHandling.Refuse,
        double learningRate = 0.05,
        bool onlyNew = false,
        bool hasAll = false)
    {
        // Parameters that are not to be trained are not given to the optimizer, as is usual.
        var trainer = new ProactiveTrainer(
            model,
            nn.CrossEntropyLoss(),
            new FusedAdam([.. model.parameters().Where(p => hasAll || p.requires_grad)], learningRate),
            Options(nonFinite, buffers, nonPersistent),
            Components(strategy, filled: !onlyNew, onlyNew));
        return trainer;
    }

    private static void StepAndApply<TModule>(ProactiveTrainer trainer, ModelReplica<TModule> replica, int seed)
        where TModule : nn.Module
    {
        var (inputs, targets) = TestModels.Arrivals(8, seed);
        using (inputs)
        using (targets)
        {
            using var result = trainer.Step(inputs, targets);
            replica.Apply(result.Update!).Should().BeTrue();
        }
    }

    private static void AssertIdentical<TModule>(ProactiveTrainer trainer, ModelReplica<TModule> replica)
        where TModule : nn.Module<Tensor, Tensor>
    {
        replica.Verify().Should().BeTrue();
        trainer.CreateSnapshot().StateDigest.Should().Be(replica.Digest);
        using var probe = TestModels.Arrivals(5, 99).Inputs;
        using var expected = trainer.Predict(probe);
        using var actual = replica.Predict(probe);
        TestModels.Bytes(actual).Should().Equal(TestModels.Bytes(expected));
    }

    /// <summary>A layer that is trained, and one that follows it as an average; in the layout, the follower lies between trained parameters and a buffer.</summary>
    private sealed class MeanTeacher : nn.Module<Tensor, Tensor>
    {
        public const float Limit = 0.3f;

#pragma warning disable IDE1006 // A module names its tensors by its fields.
        public readonly Linear slow = nn.Linear(TestModels.Features, TestModels.Classes);
        public readonly Linear quick = nn.Linear(TestModels.Features, TestModels.Classes);
#pragma warning restore IDE1006
        private int steps;

        public MeanTeacher()
            : base(nameof(MeanTeacher))
        {
            RegisterComponents();
            slow.weight.requires_grad = false;
            slow.bias!.requires_grad = false;
        }

        public int WarmUp { get; init; }

        public bool LimitsWeights { get; init; }

        public bool LimitsInEval { get; set; }

        public bool Fails { get; set; }

        public void Average()
        {
            using var guard = no_grad();
            using Scalar keep = 0.9, take = 0.1;
            _ = slow.weight.mul_(keep).add_(quick.weight, take);
        }

        public override Tensor forward(Tensor input)
        {
            if (training && ++steps > WarmUp) Average();
            if (training ? LimitsWeights : LimitsInEval) LimitWeights();
            var output = quick.call(input) + slow.call(input);
            return Fails ? output.mul(float.NaN) : output;
        }

        private void LimitWeights()
        {
            using var guard = no_grad();
            using Scalar low = -Limit, high = Limit;
            _ = quick.weight.clamp_(low, high);
        }
    }

    /// <summary>An additive mask of negative infinities, as attention has one, of which one place changes, and running statistics.</summary>
    private sealed class Masked : nn.Module<Tensor, Tensor>
    {
        private readonly Linear output = nn.Linear(TestModels.Features, TestModels.Classes);
        private readonly BatchNorm1d norm = nn.BatchNorm1d(TestModels.Features);

        public Masked()
            : base(nameof(Masked))
        {
            var mask = full([4, 4], float.NegativeInfinity);
            mask[0, 0] = 1;
            register_buffer("mask", mask);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using var guard = no_grad();
            using Scalar keep = 0.5;
            _ = get_buffer("mask")![0, 0].mul_(keep);
            using var recording = enable_grad(training);
            return output.call(norm.call(input));
        }
    }

    /// <summary>Whatever writes to its own tensors in eval mode: an embedding that limits its rows, instance normalisation, a counter.</summary>
    private sealed class SelfWriting : nn.Module<Tensor, Tensor>
    {
        private readonly Embedding table = nn.Embedding(20, 8, max_norm: 1.0);
        private readonly InstanceNorm1d norm = nn.InstanceNorm1d(2, track_running_stats: true);
        private readonly Linear output = nn.Linear(8, TestModels.Classes);

        public SelfWriting()
            : base(nameof(SelfWriting))
        {
            register_buffer("calls", zeros(1, dtype: ScalarType.Int64));
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using (no_grad())
            {
                using Scalar one = 1;
                _ = get_buffer("calls")!.add_(one);
            }

            using Scalar scale = 3.0;
            var rows = input.narrow(1, 0, 2).abs().mul(scale).to(ScalarType.Int64).clamp(0, 19);
            return output.call(norm.call(table.call(rows)).mean([1L]));
        }
    }

    /// <summary>A non-persistent buffer, which it may count its calls in.</summary>
    private sealed class Transient : nn.Module<Tensor, Tensor>
    {
        private readonly Linear output = nn.Linear(TestModels.Features, TestModels.Classes);
        private readonly bool counts;

        public Transient(bool counts)
            : base(nameof(Transient))
        {
            this.counts = counts;
            register_buffer("scratch", zeros(1), persistent: false);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            if (!counts || !training) return output.call(input);
            using (no_grad())
            {
                using Scalar one = 1;
                _ = get_buffer("scratch")!.add_(one);
            }

            return output.call(input);
        }
    }
}
