using System.Diagnostics.Metrics;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Evaluation;
using ContinuousDL.Failures;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Residuals;
using ContinuousDL.Sampling;
using ContinuousDL.State;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>The loop: what is observed is kept, what a step reports is what it did, and what changes is what is sent.</summary>
public class ProactiveTrainerTests
{
    private static readonly ProactiveTrainerOptions Small = new() { BatchSize = 16, TriggerSize = 4, Density = 0.02 };

    [Test]
    public void Observe_keeps_samples_and_says_when_a_step_is_due()
    {
        using var model = TestModels.Mlp();
        using var trainer = Make(model);
        Observe(trainer, 3, 1).Should().Match<ObserveResult>(r => r.SampleCount == 3 && r.PendingSamples == 3 && !r.IsStepDue && r.Loss > 0);
        Observe(trainer, 1, 2).IsStepDue.Should().BeTrue();
        trainer.SampleCount.Should().Be(4);
        trainer.Evaluator.Summary.Samples.Should().Be(4);
    }

    [Test]
    public void Step_reports_new_and_historical_samples()
    {
        using var model = TestModels.Mlp();
        using var trainer = Make(model);
        AddHistory(trainer, 50);
        Observe(trainer, 4, 1);
        using (var result = trainer.Step())
        {
            result.NewSamples.Should().Be(4);
            result.HistoricalSamples.Should().Be(12);
            result.Loss.Should().BePositive();
            result.Update!.Sequence.Should().Be(1);
            result.Timings.Total.Should().BePositive();
        }

        using var second = trainer.Step();
        second.NewSamples.Should().Be(0);
        second.HistoricalSamples.Should().Be(16);
        second.Update!.BaseSequence.Should().Be(1);
    }

    [Test]
    public void New_samples_that_do_not_fit_stay_new()
    {
        using var model = TestModels.Mlp();
        using var trainer = Make(model);
        Observe(trainer, 20, 1);
        using var first = trainer.Step();
        first.NewSamples.Should().Be(16);
        trainer.PendingSamples.Should().Be(4);
        using var second = trainer.Step();
        second.NewSamples.Should().Be(4);
        trainer.PendingSamples.Should().Be(0);
    }

    [Test]
    public void Step_without_samples_says_what_to_do()
    {
        using var model = TestModels.Mlp();
        using var trainer = Make(model);
        trainer.Invoking(t => t.Step()).Should().Throw<InvalidOperationException>().WithMessage("*Observe*");
    }

    [Test]
    public void A_model_learns_while_one_coordinate_in_fifty_changes()
    {
        using var model = TestModels.Mlp();
        using var trainer = Make(model);
        var losses = new List<double>();
        for (var step = 0; step < 300; step++)
        {
            losses.Add(Observe(trainer, 4, step).Loss!.Value);
            using var result = trainer.Step();
            result.CoordinatesChanged.Should().BeLessThanOrEqualTo(3);
        }

        losses.TakeLast(50).Average().Should().BeLessThan(losses.Take(50).Average() * 0.8);
    }

    [TestCaseSource(nameof(Deployments))]
    [Category("Slow")]
    public void What_is_sent_is_exactly_what_changed_and_a_replica_is_identical_after_every_step(
        Func<IEnumerable<Parameter>, optim.Optimizer> optimizer, Func<IDeploymentStrategy> strategy, bool dense)
    {
        random.manual_seed(1);
        using var model = TestModels.WithBatchNorm();
        using var opt = optimizer(model.parameters());
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), opt, Small, new ProactiveTrainerComponents { Strategy = strategy(), Evaluator = new ClassificationEvaluator() });
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        using var probe = TestModels.Arrivals(5, 99).Inputs;
        for (var step = 0; step < 1000; step++)
        {
            var before = trainer.CreateSnapshot();
            Observe(trainer, 4, step);
            using var result = trainer.Step();
            var after = trainer.CreateSnapshot();

            result.Update!.Count.Should().Be(dense ? before.Layout.Count : Differences(before, after), "an update is exactly what changed");
            replica.Apply(result.Update).Should().BeTrue();
            replica.Digest.Should().Be(after.StateDigest);
            if (step % 100 != 0) continue;
            replica.Verify().Should().BeTrue();
            using var expected = trainer.Predict(probe);
            using var actual = replica.Predict(probe);
            TestModels.Bytes(actual).Should().Equal(TestModels.Bytes(expected));
        }
    }

    [Test]
    public void Dense_deployment_is_bit_identical_to_the_loop_written_by_hand()
    {
        random.manual_seed(3);
        using var model = TestModels.Mlp();
        using var twin = TestModels.Mlp();
        ModelSnapshot.Of(model).CopyTo(twin);
        using var optimizer = optim.Adam(model.parameters(), 0.01, amsgrad: true);
        using var other = optim.Adam(twin.parameters(), 0.01, amsgrad: true);
        using var loss = nn.CrossEntropyLoss();
        using var trainer = new ProactiveTrainer(model, loss, optimizer, Small, new ProactiveTrainerComponents { Strategy = new DenseDeployment(), Sampler = new OnlineSampler() });
        for (var step = 0; step < 50; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(16, step);
            trainer.Step(inputs, targets).Dispose();

            other.zero_grad();
            loss.call(twin.call(inputs), targets).backward();
            other.step();
        }

        TestModels.State(model).Should().Equal(TestModels.State(twin));
    }

    [Test]
    public void The_same_seed_gives_bit_identical_weights()
    {
        Run(5).Should().Equal(Run(5)).And.NotEqual(Run(6));

        static byte[] Run(ulong seed)
        {
            random.manual_seed(11);
            using var model = TestModels.WithBatchNorm();
            using var optimizer = new FusedAdam(model.parameters(), 0.01);
            using var trainer = new ProactiveTrainer(
                model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4, Seed = seed, Density = 0.05 });
            AddHistory(trainer, 40);
            for (var step = 0; step < 50; step++)
            {
                Observe(trainer, 4, step);
                trainer.Step().Dispose();
            }

            return TestModels.State(model);
        }
    }

    [Test]
    public void Update_compression_applies_everything_in_the_end()
    {
        // Sent + owed = wanted: with plain SGD on a gradient that does not depend on the weights, exactly.
        using var parameter = nn.Parameter(zeros(100));
        using var model = new Bare(parameter);
        using var optimizer = new FusedSgd(model.parameters(), 1);
        using var memory = new ErrorFeedbackMemory();
        using var trainer = new ProactiveTrainer(
            model,
            (inputs, _) => inputs.mul(parameter).sum(),
            optimizer,
            new ProactiveTrainerOptions { BatchSize = 1, TriggerSize = 1, EvaluateArrivals = false },
            new ProactiveTrainerComponents { Strategy = new UpdateCompression(TopKCompressor.OfCount(7), memory), Sampler = new OnlineSampler() });
        var wanted = new double[100];
        var random = new Random(4);
        for (var step = 0; step < 200; step++)
        {
            // Multiples of 1/64: sums are exact, so that the books must balance to the last bit.
            var gradient = Enumerable.Range(0, 100).Select(_ => random.Next(-64, 65) / 64f).ToArray();
            for (var i = 0; i < 100; i++) wanted[i] -= gradient[i];
            using var inputs = tensor(gradient, [1, 100]);
            using var targets = zeros(1);
            trainer.Step(inputs, targets).Dispose();
        }

        var applied = parameter.detach().data<float>().ToArray();
        var owed = memory.Accumulated.ToArray();
        applied.Zip(owed, (a, e) => (double)a + e).Should().Equal(wanted);
    }

    [TestCase(NonFiniteHandling.Throw)]
    [TestCase(NonFiniteHandling.Skip)]
    public void A_non_finite_loss_leaves_model_moments_and_residuals_as_they_were(NonFiniteHandling handling)
    {
        random.manual_seed(2);
        using var model = TestModels.WithBatchNorm();
        using var optimizer = new FusedAdam(model.parameters(), 0.01);
        using var memory = new ErrorFeedbackMemory();
        var options = new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4, NonFinite = handling, EvaluateArrivals = false };
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), optimizer, options, new ProactiveTrainerComponents { Strategy = new UpdateCompression(new TopKCompressor(0.02), memory) });
        for (var step = 0; step < 5; step++)
        {
            Observe(trainer, 4, step);
            trainer.Step().Dispose();
        }

        var (state, owed, digest, moments) = (TestModels.State(model), memory.Accumulated.ToArray(), trainer.Deployed.Digest, State(optimizer));
        using var inputs = full([4, TestModels.Features], float.NaN);
        using var targets = zeros(4, dtype: ScalarType.Int64);
        trainer.Observe(inputs, targets);
        if (handling == NonFiniteHandling.Throw)
        {
            trainer.Invoking(t => t.Step()).Should().Throw<NonFiniteException>().WithMessage("*loss is NaN*");
            trainer.PendingSamples.Should().Be(0, "all new samples are in quarantine");
        }
        else
        {
            using var result = trainer.Step();
            result.IsSkipped.Should().BeTrue();
            result.SkipReason.Should().Contain("NaN");
            result.Update.Should().BeNull();
            trainer.PendingSamples.Should().Be(0);
        }

        trainer.QuarantinedSamples.Select(s => s.Index).Should().Equal(20, 21, 22, 23);
        TestModels.State(model).Should().Equal(state);
        memory.Accumulated.ToArray().Should().Equal(owed);
        State(optimizer).Should().Equal(moments);
        trainer.Deployed.Digest.Should().Be(digest);
        trainer.Deployed.Sequence.Should().Be(5);
    }

    [Test]
    public void A_non_finite_gradient_names_the_parameter()
    {
        using var parameter = nn.Parameter(zeros(3));
        using var model = new Bare(parameter);
        using var optimizer = new FusedSgd(model.parameters(), 1);
        using var trainer = new ProactiveTrainer(
            model, (_, _) => parameter.sqrt().sum(), optimizer, new ProactiveTrainerOptions { BatchSize = 1, TriggerSize = 1, EvaluateArrivals = false });
        using var inputs = zeros(1, 1);
        using var targets = zeros(1);
        trainer.Invoking(t => t.Step(inputs, targets)).Should().Throw<NonFiniteException>()
            .Where(e => e.ParameterName == "weight" && e.Loss == 0);
        TestModels.Bytes(parameter).Should().OnlyContain(b => b == 0);
    }

    [Test]
    public void Observe_refuses_bad_arrivals_and_keeps_nothing()
    {
        using var model = TestModels.Mlp();
        using var optimizer = optim.Adam(model.parameters(), 0.01);
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), optimizer, Small, new ProactiveTrainerComponents { Evaluator = new ClassificationEvaluator() });
        Observe(trainer, 4, 1);
        using var scope = NewDisposeScope();
        var good = zeros(2, TestModels.Features);
        var labels = zeros(2, dtype: ScalarType.Int64);
        Refused(zeros(0, TestModels.Features), zeros(0, dtype: ScalarType.Int64)).WithMessage("*N above 0*");
        Refused(good, zeros(3, dtype: ScalarType.Int64)).WithMessage("*2 inputs*");
        Refused(zeros(2, TestModels.Features + 1), labels);
        Refused(good.to(ScalarType.Float64), labels);
        Refused(good, labels + TestModels.Classes).WithMessage("*3*");
        Refused(good, labels - 1);
        var disposed = zeros(2, TestModels.Features);
        disposed.Dispose();
        trainer.Invoking(t => t.Observe(disposed, labels)).Should().Throw<ObjectDisposedException>();
        trainer.Invoking(t => t.Observe(null!, labels)).Should().Throw<ArgumentNullException>();

        trainer.SampleCount.Should().Be(4);
        trainer.Evaluator.Summary.Samples.Should().Be(4);
        trainer.Step().Dispose();

        FluentAssertions.Specialized.ExceptionAssertions<ArgumentException> Refused(Tensor inputs, Tensor targets) =>
            trainer.Invoking(t => t.Observe(inputs, targets)).Should().Throw<ArgumentException>();
    }

    [Test]
    public void Options_out_of_range_are_refused_by_name()
    {
        using var model = TestModels.Mlp();
        using var optimizer = optim.Adam(model.parameters(), 0.01);
        using var loss = nn.CrossEntropyLoss();
        foreach (var (options, name) in new (ProactiveTrainerOptions, string)[]
        {
            (new() { BatchSize = 0 }, "BatchSize"), (new() { TriggerSize = 0 }, "TriggerSize"), (new() { Density = 0 }, "Density"),
            (new() { Density = 1.5 }, "Density"), (new() { Density = double.NaN }, "Density"), (new() { Buffers = null! }, "Buffers"),
            (new() { NonFinite = (NonFiniteHandling)7 }, "NonFinite"), (new() { Buffers = new() { Interval = 0 } }, "Interval"),
        })
        {
            Action make = () => _ = new ProactiveTrainer(model, loss, optimizer, options);
            make.Should().Throw<ArgumentException>().WithMessage($"*{name}*");
        }
    }

    [TestCase(7, 8)]
    [TestCase(100, 128)]
    public void A_history_that_cannot_hold_a_trigger_is_refused_by_name(long capacity, int trigger)
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var loss = nn.CrossEntropyLoss();
        var folder = Directory.CreateTempSubdirectory("history-").FullName;
        foreach (var make in new Func<ISampleHistory>[]
        {
            () => new InMemorySampleHistory(new() { Capacity = capacity }), () => new MappedSampleHistory(folder, new() { Capacity = capacity }),
        })
        {
            using var history = make();
            Action refused = () => _ = new ProactiveTrainer(
                model, loss, optimizer, new ProactiveTrainerOptions { TriggerSize = trigger }, new ProactiveTrainerComponents { History = history });
            refused.Should().Throw<ArgumentException>().WithMessage($"*TriggerSize is {trigger}*Capacity*{capacity}*");
            history.Count.Should().Be(0, "the history is still the caller's, and not disposed of");
            new ProactiveTrainer(
                model, loss, optimizer, new ProactiveTrainerOptions { TriggerSize = (int)capacity }, new ProactiveTrainerComponents { History = history }).Dispose();
        }

        Directory.Delete(folder, recursive: true);
    }

    [Test]
    public void A_step_is_due_where_the_capacity_is_the_trigger()
    {
        using var model = TestModels.Mlp();
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), new FusedSgd(model.parameters(), 0.1), new ProactiveTrainerOptions { TriggerSize = 8 },
            new ProactiveTrainerComponents { History = new InMemorySampleHistory(new() { Capacity = 8 }) });
        for (var arrivals = 0; arrivals < 20; arrivals++)
        {
            if (Observe(trainer, 3, arrivals).IsStepDue) trainer.Step().Dispose();
        }

        trainer.Deployed.Sequence.Should().Be(6);
    }

    [Test]
    public void An_optimizer_of_another_model_is_refused()
    {
        using var model = TestModels.Mlp();
        using var other = TestModels.Mlp();
        using var optimizer = optim.Adam(other.parameters(), 0.01);
        Action make = () => _ = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer);
        make.Should().Throw<ArgumentException>().WithMessage("*not one of the model's*");
    }

    [Test]
    public void A_trainer_that_cannot_be_made_leaves_nothing_behind()
    {
        using var model = TestModels.WithBatchNorm();
        using var strategy = new UpdateCompression(new TopKCompressor(0.1));
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var loss = nn.CrossEntropyLoss();
        var components = new ProactiveTrainerComponents { Strategy = strategy };
        using var trainer = new ProactiveTrainer(model, loss, optimizer, Small, components);
        var (published, completed) = (0, 0);
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Meter.Name != "ContinuousDL") return;
                published++;
                l.EnableMeasurementEvents(instrument);
            },
            MeasurementsCompleted = (_, _) => completed++,
        };
        listener.Start();
        published = 0;
        Action make = () => _ = new ProactiveTrainer(model, loss, optimizer, Small, components);
        make.Should().Throw<InvalidOperationException>();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        var tensors = Tensor.TotalCount;
        for (var i = 0; i < 20; i++) make.Should().Throw<InvalidOperationException>();
        Tensor.TotalCount.Should().BeLessThanOrEqualTo(tensors);
        published.Should().BePositive();
        completed.Should().Be(published);
        Observe(trainer, 8, 1);
        trainer.Step().Dispose();
    }

    [Test]
    [Category("Slow")]
    public void Five_thousand_steps_leave_no_tensors_behind()
    {
        using var model = TestModels.WithBatchNorm();
        using var optimizer = optim.Adam(model.parameters(), 0.01);
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), optimizer, Small,
            new ProactiveTrainerComponents { History = new InMemorySampleHistory(new InMemorySampleHistoryOptions { Capacity = 500 }), Strategy = new ReplicaDifference(new TopKCompressor(0.02)) });
        using var replica = new ModelReplica<Sequential>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        long tensors = 0, resident = 0;
        for (var step = 0; step < 5000; step++)
        {
            Observe(trainer, 4, step);
            using var result = trainer.Step();
            replica.Apply(result.Update!);
            if (step is not (1000 or 4999)) continue;
            GC.Collect();
            GC.WaitForPendingFinalizers();
            if (step == 1000) (tensors, resident) = (Tensor.TotalCount, Environment.WorkingSet);
        }

        Tensor.TotalCount.Should().BeLessThanOrEqualTo(tensors + 10);
        (Environment.WorkingSet - resident).Should().BeLessThan(64 << 20, "memory is flat over 4,000 steps");
    }

    private static IEnumerable<TestCaseData> Deployments()
    {
        (string, Func<IEnumerable<Parameter>, optim.Optimizer>)[] optimizers =
        [
            ("FusedSgd", p => new FusedSgd(p, 0.05, momentum: 0.9)),
            ("Adam", p => new FusedAdam(p, 0.01, amsGrad: true)),
            ("AdamW", p => new FusedAdamW(p, 0.01)),
            ("TorchSharp SGD", p => optim.SGD(p, 0.05, momentum: 0.9)),
            ("TorchSharp Adam", p => optim.Adam(p, 0.01, amsgrad: true)),
            ("TorchSharp RMSProp", p => optim.RMSProp(p, 0.001)),
        ];
        (string, Func<IDeploymentStrategy>, bool)[] strategies =
        [
            ("dense", () => new DenseDeployment(), true),
            ("update top-k", () => new UpdateCompression(new TopKCompressor(0.02)), false),
            ("update top-k, look-ahead", () => new UpdateCompression(new TopKCompressor(0.02), lookahead: 0.5), false),
            ("gradient top-k", () => new GradientCompression(new TopKCompressor(0.02)), false),
            ("difference top-k", () => new ReplicaDifference(new TopKCompressor(0.02)), false),
        ];
        foreach (var (optimizerName, optimizer) in optimizers)
        {
            foreach (var (strategyName, strategy, dense) in strategies)
            {
                yield return new TestCaseData(optimizer, strategy, dense).SetArgDisplayNames(optimizerName, strategyName);
            }
        }
    }

    private static int Differences(ModelSnapshot a, ModelSnapshot b)
    {
        var count = 0;
        for (var e = 0; e < a.Layout.Entries.Count; e++)
        {
            var size = a.Layout.Entries[e].ElementSize;
            for (var i = 0; i < a.Layout.Entries[e].Length; i++)
            {
                if (!a.Values(e).Slice(i * size, size).SequenceEqual(b.Values(e).Slice(i * size, size))) count++;
            }
        }

        return count;
    }

    private static byte[] State(IUpdateRule rule)
    {
        using var stream = new MemoryStream();
        rule.SaveState(new BinaryWriter(stream));
        return stream.ToArray();
    }

    private static ProactiveTrainer Make(nn.Module<Tensor, Tensor> model) =>
        new(model, nn.CrossEntropyLoss(), new FusedAdam(model.parameters(), 0.01), Small);

    private static void AddHistory(ProactiveTrainer trainer, int count)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(count, 77);
        trainer.AddHistory(inputs, targets);
    }

    private static ObserveResult Observe(ProactiveTrainer trainer, int count, int seed)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(count, seed);
        return trainer.Observe(inputs, targets);
    }

    /// <summary>A model that is nothing but a parameter.</summary>
    private sealed class Bare : nn.Module
    {
        public Bare(Parameter weight)
            : base("bare") => register_parameter("weight", weight);
    }
}
