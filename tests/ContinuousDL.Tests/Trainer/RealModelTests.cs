using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Evaluation;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Residuals;
using ContinuousDL.Vectors;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>Models as they are: what a replica needs to follow them, whatever their parameters look like.</summary>
public class RealModelTests
{
    private static readonly Func<IDeploymentStrategy>[] Strategies =
    [
        () => new DenseDeployment(),
        () => new UpdateCompression(new TopKCompressor(0.05)),
        () => new UpdateCompression(new TopKCompressor(0.05), lookahead: 0.5),
        () => new UpdateCompression(new RandomKCompressor(0.05)),
        () => new UpdateCompression(new ThresholdCompressor(1e-3f)),
        () => new UpdateCompression(new QsgdCompressor(4)),
        () => new UpdateCompression(new SignCompressor()),
        () => new UpdateCompression(new NoCompressor(), new NoResidualMemory()),
        () => new GradientCompression(new TopKCompressor(0.05)),
        () => new GradientCompression(new TopKCompressor(0.05), new MomentumCorrectionMemory(clipNorm: 1)),
        () => new GradientCompression(new QsgdCompressor(2)),
        () => new ReplicaDifference(new TopKCompressor(0.05)),
        () => new ReplicaDifference(new RandomKCompressor(0.05)),
    ];

    private static IEnumerable<TestCaseData> Cases()
    {
        foreach (var (name, make) in new (string, Func<TestModel>)[]
        {
            ("plain", () => new TestModel()), ("float64", () => new TestModel { DType = ScalarType.Float64 }),
            ("bfloat16", () => new TestModel { DType = ScalarType.BFloat16 }), ("mixed dtypes", () => new TestModel { MixedDTypes = true }),
            ("frozen", () => new TestModel { Frozen = true }), ("tied", () => new TestModel { Tied = true }),
            ("unused", () => new TestModel { Unused = true }), ("non-contiguous", () => new TestModel { NonContiguous = true }),
        })
        {
            for (var s = 0; s < Strategies.Length; s++)
            {
                foreach (var fused in new[] { true, false }) yield return new TestCaseData(make, Strategies[s], fused).SetArgDisplayNames(name, $"strategy {s}", fused ? "fused" : "TorchSharp");
            }
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void A_replica_follows_exactly(Func<object> make, Func<IDeploymentStrategy> strategy, bool fused)
    {
        random.manual_seed(7);
        var kind = (TestModel)make();
        using var model = kind.Build();
        var trained = model.parameters().Where(p => p.requires_grad).ToArray();
        using optim.Optimizer optimizer = fused ? new FusedAdam(trained, 0.01) : optim.SGD(trained, 0.05, momentum: 0.9);
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 8, TriggerSize = 4 }, new ProactiveTrainerComponents { Strategy = strategy() });
        using var replica = new ModelReplica<Net>(kind.Build, trainer.CreateSnapshot());
        using var probe = TestModels.Arrivals(4, 1000).Inputs;
        var start = trainer.CreateSnapshot();
        for (var step = 0; step < 30; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, step);
            using var result = trainer.Step(inputs, targets);
            replica.Apply(result.Update!);
        }

        replica.Verify().Should().BeTrue();
        replica.Digest.Should().Be(trainer.CreateSnapshot().StateDigest).And.Be(trainer.Deployed.Digest).And.NotBe(start.StateDigest);
        using var expected = trainer.Predict(probe);
        using var actual = replica.Predict(probe);
        TestModels.Bytes(actual).Should().Equal(TestModels.Bytes(expected));

        var after = trainer.CreateSnapshot();
        for (var e = 0; e < after.Layout.Entries.Count; e++)
        {
            var name = after.Layout.Entries[e].Name;
            var same = after.Values(e).SequenceEqual(start.Values(e));
            if (name.StartsWith("frozen", StringComparison.Ordinal) || name.StartsWith("unused", StringComparison.Ordinal)) same.Should().BeTrue($"{name} is not trained");
        }

        after.Layout.Entries.Count(x => x.Name is "tied" or "hidden.weight").Should().Be(1, "a shared parameter is listed once");
    }

    [Test]
    public void Low_precision_weights_lose_no_update_to_rounding()
    {
        // Updates of 1/1024 each vanish when added to a bfloat16 weight near 1 one by one; owed, they add up.
        using var parameter = nn.Parameter(ones(4, dtype: ScalarType.BFloat16));
        using var model = new Holder(parameter);
        using var optimizer = new FusedSgd(model.parameters(), 1.0 / 1024);
        using var memory = new ErrorFeedbackMemory();
        using var trainer = new ProactiveTrainer(
            model, (_, _) => parameter.sum(), optimizer, new ProactiveTrainerOptions { BatchSize = 1, EvaluateArrivals = false },
            new ProactiveTrainerComponents { Strategy = new UpdateCompression(new NoCompressor(), memory) });
        using var inputs = zeros(1, 1);
        using var targets = zeros(1);
        for (var step = 0; step < 512; step++) trainer.Step(inputs, targets).Dispose();
        using var value = parameter.detach().to(ScalarType.Float32);
        for (var i = 0; i < 4; i++) (value.data<float>()[i] + memory.Accumulated[i]).Should().Be(0.5f);
        value.data<float>()[0].Should().BeApproximately(0.5f, 0.005f);
    }

    [TestCase(0.5)]
    [TestCase(1)]
    public void The_model_trains_at_the_deployed_weights_plus_a_share_of_what_is_owed(double lookahead)
    {
        random.manual_seed(4);
        using var model = TestModels.Mlp();
        using var optimizer = new FusedAdam(model.parameters(), 0.01, weightDecay: 0.01);
        using var memory = new ErrorFeedbackMemory();
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 8 },
            new ProactiveTrainerComponents { Strategy = new UpdateCompression(new TopKCompressor(0.05), memory, lookahead) });
        for (var step = 0; step < 50; step++)
        {
            Step(trainer, step);
            var (deployed, owed) = (Floats(trainer.CreateSnapshot()), memory.Accumulated.ToArray());
            var trained = Floats(ModelSnapshot.Of(model));
            trained.Should().Equal(deployed.Zip(owed, (w, e) => w + ((float)lookahead * e)));
        }

        static float[] Floats(ModelSnapshot snapshot) =>
            [.. Enumerable.Range(0, snapshot.Layout.Entries.Count).SelectMany(e => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(snapshot.Values(e)).ToArray())];
    }

    [Test]
    public void Looking_at_blocks_gives_what_compressing_at_the_end_gives()
    {
        Run(new TopKCompressor(0.05)).Should().Equal(Run(new AtTheEnd(new TopKCompressor(0.05))));

        static byte[] Run(IGradientCompressor compressor)
        {
            random.manual_seed(4);
            using var model = nn.Sequential(("hidden", nn.Linear(TestModels.Features, 700)), ("relu", nn.ReLU()), ("output", nn.Linear(700, TestModels.Classes)));
            using var optimizer = new FusedAdam(model.parameters(), 0.01);
            using var trainer = new ProactiveTrainer(
                model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 8 },
                new ProactiveTrainerComponents { Strategy = new UpdateCompression(compressor) });
            for (var step = 0; step < 50; step++) Step(trainer, step);
            return TestModels.State(model);
        }
    }

    [Test]
    public void Sparse_gradients_of_embeddings_are_taken()
    {
        using var model = nn.Sequential(("embedding", nn.Embedding(20, 4, sparse: true)), ("flatten", nn.Flatten()), ("output", nn.Linear(8, 3)));
        using var optimizer = new FusedSgd(model.parameters(), 0.5);
        using var trainer = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 4, Density = 1 });
        using var inputs = tensor(new long[] { 1, 2, 1, 3, 7, 2, 1, 1 }, [4, 2]);
        using var targets = tensor(new long[] { 0, 1, 2, 0 });
        var before = trainer.CreateSnapshot();
        trainer.Step(inputs, targets).Dispose();
        var after = trainer.CreateSnapshot();
        var entry = after.Layout.Entries.ToList().FindIndex(e => e.Name == "embedding.weight");
        var changed = Enumerable.Range(0, 20).Where(row => !after.Values(entry).Slice(row * 16, 16).SequenceEqual(before.Values(entry).Slice(row * 16, 16)));
        changed.Should().Equal(1, 2, 3, 7);
    }

    [Test]
    public void A_frozen_batch_norm_inside_a_training_model_stays_frozen()
    {
        using var model = TestModels.WithBatchNorm();
        model.train();
        model.named_modules().Single(m => m.name == "norm").module.eval();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 8 });
        var statistics = model.named_buffers().Single(b => b.name == "norm.running_mean").buffer;
        var before = TestModels.Bytes(statistics);
        model.eval();
        for (var step = 0; step < 3; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, step);
            trainer.Step(inputs, targets).Dispose();
        }

        TestModels.Bytes(statistics).Should().Equal(before);
        model.training.Should().BeTrue();
        model.named_modules().Single(m => m.name == "dropout").module.training.Should().BeTrue();
    }

    [Test]
    public void A_scheduler_of_TorchSharp_moves_the_learning_rate()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 0.5);
        var scheduler = optim.lr_scheduler.LambdaLR(optimizer, epoch => epoch == 0 ? 0 : 1);
        using var trainer = new ProactiveTrainer(
            model, nn.CrossEntropyLoss(), optimizer, new ProactiveTrainerOptions { BatchSize = 8 }, new ProactiveTrainerComponents { Strategy = new DenseDeployment() });
        var state = TestModels.State(model);
        Step(trainer, 0);
        TestModels.State(model).Should().Equal(state, "the learning rate is 0");
        scheduler.step();
        Step(trainer, 1);
        TestModels.State(model).Should().NotEqual(state);
    }

    [Test]
    public void A_model_with_several_inputs_is_trained_through_a_delegate()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedAdam(model.parameters(), 0.01);
        using var trainer = new ProactiveTrainer(
            model,
            (inputs, targets) => nn.functional.cross_entropy(model.call(inputs.narrow(1, 0, TestModels.Features)), targets),
            optimizer,
            new ProactiveTrainerOptions { BatchSize = 8 },
            predict: inputs => model.call(inputs.narrow(1, 0, TestModels.Features)),
            components: new ProactiveTrainerComponents { Evaluator = new ClassificationEvaluator() });
        for (var step = 0; step < 5; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, step);
            trainer.Step(cat([inputs, ones(8, 2)], 1), targets).Dispose();
        }

        trainer.Evaluator.Summary.Samples.Should().Be(40);
        trainer.Evaluator.Summary.Accuracy.Should().NotBeNull();
    }

    [Test]
    public void Without_a_way_to_predict_Predict_says_so()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedAdam(model.parameters(), 0.01);
        using var trainer = new ProactiveTrainer(model, (inputs, targets) => nn.functional.cross_entropy(model.call(inputs), targets), optimizer);
        using var inputs = zeros(1, TestModels.Features);
        trainer.Invoking(t => t.Predict(inputs)).Should().Throw<InvalidOperationException>();
    }

    [Test]
    public void A_loss_that_is_no_scalar_is_refused()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedAdam(model.parameters(), 0.01);
        using var trainer = new ProactiveTrainer(model, nn.CrossEntropyLoss(reduction: nn.Reduction.None), optimizer, new ProactiveTrainerOptions { EvaluateArrivals = false });
        trainer.Invoking(t => Step(t, 0)).Should().Throw<InvalidOperationException>().WithMessage("*single number*");
    }

    [Test]
    public void Views_that_overlap_are_refused_by_name()
    {
        using var storage = zeros(10);
        using var model = new Holder(nn.Parameter(storage.narrow(0, 0, 6)), nn.Parameter(storage.narrow(0, 4, 6)));
        using var optimizer = new FusedSgd(model.parameters(), 1);
        Action make = () => _ = new ProactiveTrainer(model, (_, _) => zeros(1), optimizer);
        make.Should().Throw<ArgumentException>().WithMessage("*weight0*weight1*overlap*");
    }

    [Test]
    public void A_strategy_serves_one_trainer()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 1);
        var strategy = new UpdateCompression(new TopKCompressor(0.1));
        using var trainer = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer, components: new() { Strategy = strategy });
        Action again = () => _ = new ProactiveTrainer(model, nn.CrossEntropyLoss(), optimizer, components: new() { Strategy = strategy });
        again.Should().Throw<InvalidOperationException>().WithMessage("*serves a trainer already*");
    }

    [Test]
    public void Clipping_goes_with_gradients_only()
    {
        Action make = () => _ = new UpdateCompression(new TopKCompressor(0.1), new MomentumCorrectionMemory(clipNorm: 1));
        make.Should().Throw<ArgumentException>().WithParameterName("memory");
    }

    private static void Step(ProactiveTrainer trainer, int seed)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(8, seed);
        trainer.Step(inputs, targets).Dispose();
    }

    /// <summary>Hides that a compressor can look at blocks.</summary>
    private sealed class AtTheEnd(IGradientCompressor inner) : IGradientCompressor
    {
        public void Compress(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result) => inner.Compress(vector, layout, result);
    }

    /// <summary>What a model under test is like.</summary>
    private sealed class TestModel
    {
        public ScalarType DType { get; init; } = ScalarType.Float32;

        public bool MixedDTypes { get; init; }

        public bool Frozen { get; init; }

        public bool Tied { get; init; }

        public bool Unused { get; init; }

        public bool NonContiguous { get; init; }

        public Net Build() => new(DType, MixedDTypes, Frozen, Tied, Unused, NonContiguous);
    }

    /// <summary>A classifier with every oddity asked for.</summary>
    private sealed class Net : nn.Module<Tensor, Tensor>
    {
        private readonly ScalarType dtype;
        private readonly Linear hidden;
        private readonly BatchNorm1d norm;
        private readonly Parameter output;
        private readonly Linear? frozen;
        private readonly Parameter? scale;
        private readonly Linear? unused;
        private readonly Parameter? tied;

        public Net(ScalarType dtype, bool mixed, bool freeze, bool tie, bool withUnused, bool nonContiguous)
            : base("net")
        {
            this.dtype = dtype;
            hidden = nn.Linear(TestModels.Features, TestModels.Features, dtype: dtype);
            norm = nn.BatchNorm1d(TestModels.Features, dtype: dtype);
            using Scalar size = 0.3;
            using var values = randn(TestModels.Classes, TestModels.Features, dtype: ScalarType.Float32).mul(size).to(dtype);
            output = nn.Parameter(nonContiguous ? values.t().contiguous().t() : values.clone());
            register_module("hidden", hidden);
            register_module("norm", norm);
            register_parameter("output", output);
            if (mixed)
            {
                scale = nn.Parameter(ones(TestModels.Features, dtype: ScalarType.Float64));
                register_parameter("scale", scale);
            }

            if (freeze)
            {
                frozen = nn.Linear(TestModels.Features, TestModels.Features, dtype: dtype);
                foreach (var parameter in frozen.parameters()) parameter.requires_grad = false;
                register_module("frozen", frozen);
            }

            if (withUnused)
            {
                unused = nn.Linear(2, 2, dtype: dtype);
                register_module("unused", unused);
            }

            if (tie)
            {
                tied = hidden.weight;
                register_parameter("tied", tied!);
            }
        }

        public override Tensor forward(Tensor input)
        {
            using var scope = NewDisposeScope();
            var x = input.to(dtype);
            if (frozen is not null) x = frozen.call(x);
            x = norm.call(hidden.call(x)).relu();
            if (tied is not null) x = nn.functional.linear(x, tied).relu();
            if (scale is not null) x = x.mul(scale).to(dtype);
            return nn.functional.linear(x, output).to(ScalarType.Float32).MoveToOuterDisposeScope();
        }
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
