using System.Runtime.InteropServices;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Failures;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Residuals;
using ContinuousDL.Sampling;
using ContinuousDL.State;
using ContinuousDL.Vectors;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>The books balance: steps are counted once, what is owed is not lost, and what breaks says so.</summary>
public class BookkeepingTests
{
    [Test]
    public void Dense_steps_of_a_fused_optimizer_are_its_own_steps()
    {
        random.manual_seed(3);
        using var model = TestModels.Mlp();
        using var twin = TestModels.Mlp();
        ModelSnapshot.Of(model).CopyTo(twin);
        using var optimizer = new FusedAdam(model.parameters(), 0.01);
        using var other = new FusedAdam(twin.parameters(), 0.01);
        using var loss = nn.CrossEntropyLoss();
        using var trainer = new ProactiveTrainer(
            model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 8 },
            new ProactiveTrainerComponents { Strategy = new DenseDeployment(), Sampler = new ContinuousDL.Sampling.OnlineSampler() });
        for (var step = 0; step < 20; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, step);
            trainer.Step(inputs, targets).Dispose();
            foreach (var parameter in twin.parameters()) parameter.grad = null;
            loss.call(twin.call(inputs), targets).backward();
            other.step();
        }

        TestModels.State(model).Should().Equal(TestModels.State(twin));
    }

    [TestCaseSource(nameof(Compressors))]
    public void What_is_owed_to_a_parameter_without_a_gradient_stays_owed(IGradientCompressor compressor)
    {
        using var a = nn.Parameter(zeros(4));
        using var b = nn.Parameter(zeros(4));
        using var model = new Holder(a, b);
        using var optimizer = new FusedSgd(model.parameters(), 1);
        using var memory = new ErrorFeedbackMemory();
        using var g = tensor(new[] { 1, 0.5f, 0.25f, 2 });
        var steps = 0;
        using var trainer = Make(
            model, (_, _) => steps++ % 2 == 0 ? a.mul(g).sum() + b.mul(g).sum() : a.mul(g).sum(), optimizer, new GradientCompression(compressor, memory));
        for (var step = 0; step < 8; step++) StepOnce(trainer);
        var (applied, owed) = (b.detach().data<float>().ToArray(), memory.Accumulated[4..].ToArray());
        for (var i = 0; i < 4; i++) (applied[i] - owed[i]).Should().BeApproximately(-4 * g[i].item<float>(), 1e-4f);
    }

    [Test]
    public void Weights_of_float64_keep_their_precision()
    {
        foreach (var make in new Func<IDeploymentStrategy>[] { () => new DenseDeployment(), () => new UpdateCompression(new TopKCompressor(1), lookahead: 1), () => new ReplicaDifference(new TopKCompressor(1)) })
        {
            using var parameter = nn.Parameter(tensor(new[] { 1.0 / 3, 2.0 / 3 }));
            using var model = new Holder(parameter);
            var before = TestModels.State(model);
            using var optimizer = new FusedSgd(model.parameters(), 0);
            using var trainer = Make(model, (_, _) => parameter.sum(), optimizer, make());
            StepOnce(trainer);
            TestModels.State(model).Should().Equal(before, "the learning rate is 0");
        }
    }

    [Test]
    public void A_part_that_throws_in_a_step_is_reported_at_every_later_call()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 8 },
            new ProactiveTrainerComponents { Strategy = new UpdateCompression(new Broken(() => throw new TimeZoneNotFoundException())) });
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(8, 1);
        trainer.Invoking(t => t.Step(inputs, targets)).Should().Throw<TimeZoneNotFoundException>();
        trainer.Invoking(t => t.Step()).Should().Throw<InvalidOperationException>().WithInnerException<TimeZoneNotFoundException>();
        trainer.Deployed.Sequence.Should().Be(0);
    }

    [Test]
    public void An_update_that_overflows_reaches_no_replica()
    {
        using var parameter = nn.Parameter(zeros(2));
        using var model = new Holder(parameter);
        using var optimizer = new FusedSgd(model.parameters(), 100);
        using Scalar steep = 1e37;
        using var trainer = Make(model, (_, _) => parameter.sum().mul(steep), optimizer, new UpdateCompression(new TopKCompressor(1)));
        trainer.Invoking(StepOnce).Should().Throw<NonFiniteException>().WithMessage("*learning rate*");
        TestModels.Bytes(parameter).Should().OnlyContain(x => x == 0);
    }

    [Test]
    public void A_parameter_that_is_twice_in_the_optimizer_is_refused()
    {
        using var model = TestModels.Mlp();
        Action fused = () => _ = new FusedSgd(model.parameters().Concat(model.parameters()), 0.1);
        fused.Should().Throw<ArgumentException>();
        using var optimizer = optim.SGD(model.parameters().Concat(model.parameters()), 0.1);
        Action make = () => _ = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer);
        make.Should().Throw<ArgumentException>().WithMessage("*hidden.weight*more than once*");
    }

    [TestCase(false)]
    [TestCase(true)]
    public void A_parameter_group_added_later_is_noticed_before_anything_has_changed(bool fused)
    {
        using var a = nn.Parameter(zeros(2));
        using var b = nn.Parameter(zeros(2));
        using var model = new Holder(a, b);
        using optim.Optimizer optimizer = fused ? new FusedSgd([a], 0.1) : optim.SGD([a], 0.1);
        using var trainer = Make(model, (_, _) => a.sum() + b.sum(), optimizer, new UpdateCompression(new TopKCompressor(1)));
        StepOnce(trainer);
        var state = TestModels.State(model);
        optimizer.add_param_group(fused ? new ParamGroup<FusedSgdOptions>([b]) : new SGD.ParamGroup([b], 0.1));
        for (var attempt = 0; attempt < 2; attempt++)
        {
            trainer.Invoking(StepOnce).Should().Throw<InvalidOperationException>().WithMessage("Parameters were added to the optimizer*it had 1, and has 2*Make a new trainer*");
        }

        TestModels.State(model).Should().Equal(state);
        trainer.PendingSamples.Should().Be(2, "the samples wait for a trainer that can step");
        trainer.CreateSnapshot().Sequence.Should().Be(1);
        using var another = Make(model, (_, _) => a.sum() + b.sum(), optimizer, new UpdateCompression(new TopKCompressor(1)));
        StepOnce(another);
        b.detach().data<float>().Should().AllSatisfy(value => value.Should().BeNegative());
    }

    [TestCaseSource(nameof(UnusableLosses))]
    public void A_loss_that_nothing_can_be_learned_from_says_so_and_the_trainer_goes_on(Func<Tensor, Tensor> spoil, string message)
    {
        using var parameter = nn.Parameter(ones(2));
        using var model = new Holder(parameter);
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        var spoilt = true;
        using var trainer = Make(
            model, (_, _) => spoilt ? spoil(parameter) : parameter.sum(), optimizer, new UpdateCompression(new TopKCompressor(1)));
        var state = TestModels.State(model);
        trainer.Invoking(StepOnce).Should().Throw<UnusableLossException>().WithMessage(message);
        TestModels.State(model).Should().Equal(state);
        trainer.PendingSamples.Should().Be(0, "another batch may have a usable loss");
        spoilt = false;
        StepOnce(trainer);
        trainer.Deployed.Sequence.Should().Be(1);
        trainer.QuarantinedSamples.Should().BeEmpty();
    }

    [Test]
    public void Backward_pass_that_fails_says_so_and_the_trainer_goes_on()
    {
        using var parameter = nn.Parameter(ones(2));
        using var model = new Holder(parameter);
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        var spoilt = true;
        using var trainer = Make(model, Loss, optimizer, new UpdateCompression(new TopKCompressor(1)));
        trainer.Invoking(StepOnce).Should().Throw<BatchFailedException>().WithMessage("*backward pass*")
            .Where(e => e.Quarantined.Count == 0 && e.InnerException != null);
        spoilt = false;
        StepOnce(trainer);
        trainer.Deployed.Sequence.Should().Be(1);

        Tensor Loss(Tensor inputs, Tensor targets)
        {
            var squares = parameter.exp();
            var loss = squares.sum();
            if (!spoilt) return loss;

            // What the backward pass needs is changed in place, which libtorch notices there.
            using var guard = no_grad();
            _ = squares.zero_();
            return loss;
        }
    }

    [Test]
    public void Native_error_in_a_step_of_the_optimizer_is_no_raw_one()
    {
        using var parameter = nn.Parameter(ones(2));
        using var model = new Holder(parameter);
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = Make(model, (_, _) => parameter.sum(), optimizer, new UpdateCompression(new Broken(() => throw new ExternalException("native"))));
        trainer.Invoking(StepOnce).Should().Throw<InvalidOperationException>().WithMessage("*optimizer or the strategy*native*").WithInnerException<ExternalException>();
    }

    [Test]
    public void Inputs_that_the_model_does_not_accept_are_refused_by_predict()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer);
        using var inputs = zeros(2, TestModels.Features + 1);
        trainer.Invoking(t => t.Predict(inputs)).Should().Throw<ArgumentException>().WithParameterName("inputs");
        var disposed = zeros(2, TestModels.Features);
        disposed.Dispose();
        trainer.Invoking(t => t.Predict(disposed)).Should().Throw<ObjectDisposedException>();
        using var good = zeros(2, TestModels.Features);
        using var outputs = trainer.Predict(good);
        outputs.shape.Should().Equal(2, TestModels.Classes);
    }

    [Test]
    public void A_model_changed_from_outside_is_noticed_at_the_next_snapshot()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), optimizer, components: new ProactiveTrainerComponents { Strategy = new UpdateCompression(new TopKCompressor(0.1)) });
        using (no_grad()) model.parameters().First()[0, 0] = 0.5f;
        trainer.Invoking(t => t.CreateSnapshot()).Should().Throw<InvalidOperationException>().WithMessage("*changed by something else*");
    }

    [Test]
    public void A_lease_disposed_twice_counts_once()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 8 });
        using var replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), trainer.CreateSnapshot());
        var lease = replica.Acquire();
        lease.Dispose();
        lease.Dispose();
        lease.Invoking(l => l.Model).Should().Throw<ObjectDisposedException>();
        for (var step = 0; step < 3; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, step);
            using var result = trainer.Step(inputs, targets);
            replica.Apply(result.Update!).Should().BeTrue("no reader is counted any more, nor one too few");
        }

        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void An_update_of_another_run_is_refused()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 8 });
        using var replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), trainer.CreateSnapshot());
        using var again = new FusedSgd(model.parameters(), 0.2);
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(8, 1);
        using var first = trainer.Step(inputs, targets);
        replica.Apply(first.Update!);
        using var restarted = new ProactiveTrainer(model, nn.CrossEntropyLoss(), again, new ProactiveTrainerOptions { BatchSize = 8 });
        using var other = restarted.Step(inputs, targets);
        replica.Invoking(r => r.Apply(other.Update!)).Should().Throw<RunMismatchException>()
            .Where(e => e.ReplicaRunId == trainer.Deployed.RunId && e.UpdateRunId == restarted.Deployed.RunId);
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void Look_ahead_without_a_memory_is_refused()
    {
        Action make = () => _ = new UpdateCompression(new TopKCompressor(0.1), new NoResidualMemory(), lookahead: 0.5);
        make.Should().Throw<ArgumentException>().WithParameterName("lookahead");
    }

    [Test]
    public void A_strategys_state_resumes_its_look_ahead_and_refuses_that_of_another()
    {
        random.manual_seed(3);
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        var strategy = new UpdateCompression(new TopKCompressor(0.1), lookahead: 0.5);
        using var trainer = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 8 }, new ProactiveTrainerComponents { Strategy = strategy });
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(8, 1);
        trainer.Step(inputs, targets).Dispose();
        var trained = TestModels.State(model);
        using var stream = new MemoryStream();
        strategy.SaveState(new BinaryWriter(stream));
        using (no_grad()) foreach (var parameter in model.parameters()) parameter.zero_();
        strategy.LoadState(new BinaryReader(new MemoryStream(stream.ToArray())));
        TestModels.State(model).Should().Equal(trained);

        var another = new GradientCompression(new TopKCompressor(0.1));
        another.Invoking(s => s.LoadState(new BinaryReader(new MemoryStream(stream.ToArray())))).Should().Throw<InvalidDataException>();
        another.Invoking(s => s.LoadState(new BinaryReader(new MemoryStream()))).Should().Throw<InvalidDataException>();
        another.Dispose();
    }

    private static IEnumerable<IGradientCompressor> Compressors() =>
        [new QsgdCompressor(2), new SignCompressor(), new TopKCompressor(0.3), new NoCompressor()];

    private static ProactiveTrainer Make(nn.Module model, Func<Tensor, Tensor, Tensor> loss, optim.Optimizer optimizer, IDeploymentStrategy strategy) => new(
        model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 1, TriggerSize = 1, EvaluateArrivals = false }, new ProactiveTrainerComponents { Strategy = strategy });

    private static void StepOnce(ProactiveTrainer trainer)
    {
        using var inputs = zeros(1, 1);
        using var targets = zeros(1);
        trainer.Step(inputs, targets).Dispose();
    }

    private static IEnumerable<TestCaseData> UnusableLosses()
    {
        (string Name, Func<Tensor, Tensor> Spoil, string Message)[] losses =
        [
            ("without a graph", p => p.detach().sum(), "*does not depend on any parameter*"),
            ("made of a number", _ => tensor(0.5f), "*does not depend on any parameter*"),
            ("of integers", p => p.to(ScalarType.Int64).sum(), "*does not depend on any parameter*"),
            ("complex", p => p.to(ScalarType.ComplexFloat32).sum(), "*real number*"),
            ("several numbers", p => p.mul(p), "*single number*"),
            ("null", _ => null!, "*null*"),
        ];
        return losses.Select(l => new TestCaseData(l.Spoil, l.Message).SetArgDisplayNames(l.Name));
    }

    /// <summary>A compressor that always fails.</summary>
    private sealed class Broken(Action fail) : IGradientCompressor
    {
        public void Compress(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result) => fail();
    }

    /// <summary>A module that is nothing but parameters.</summary>
    private sealed class Holder : nn.Module
    {
        public Holder(params Parameter[] parameters)
            : base("holder")
        {
            for (var i = 0; i < parameters.Length; i++) register_parameter($"weight{i}", parameters[i]);
        }
    }
}
