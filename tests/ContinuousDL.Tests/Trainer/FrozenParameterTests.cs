using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Residuals;
using ContinuousDL.Vectors;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>What has no gradient stays still, in every strategy and whatever it is owed; what it is owed waits, or is dropped.</summary>
public class FrozenParameterTests
{
    private static readonly Dictionary<string, Func<IGradientCompressor>> Compressors = new()
    {
        ["top-k"] = () => TopKCompressor.OfCount(6),
        ["top-k of each tensor"] = () => TopKCompressor.OfCount(2, CompressionScope.PerTensor),
        ["random-k"] = () => RandomKCompressor.OfCount(9),
        ["threshold"] = () => new ThresholdCompressor(0.005f),
        ["sign"] = () => new SignCompressor(),
        ["sign of the whole model"] = () => new SignCompressor(CompressionScope.WholeModel),
        ["qsgd"] = () => new QsgdCompressor(2),
        ["nothing"] = () => new NoCompressor(),
    };

    private static readonly Dictionary<string, Func<IGradientCompressor, IDeploymentStrategy>> Strategies = new()
    {
        ["update"] = c => new UpdateCompression(c),
        ["update ahead"] = c => new UpdateCompression(c, lookahead: 0.5),
        ["update without memory"] = c => new UpdateCompression(c, new NoResidualMemory()),
        ["gradient"] = c => new GradientCompression(c),
        ["gradient with momentum"] = c => new GradientCompression(c, new MomentumCorrectionMemory(clipNorm: 10)),
        ["difference"] = c => new ReplicaDifference(c),
        ["dense"] = _ => new DenseDeployment(),
    };

    private static readonly Dictionary<string, Func<IEnumerable<Parameter>, optim.Optimizer>> Optimizers = new()
    {
        ["fused"] = p => new FusedAdam(p, 0.02, weightDecay: 0.1),
        ["torch"] = p => optim.SGD(p, 0.05, momentum: 0.9, weight_decay: 0.1),
    };

    public static IEnumerable<TestCaseData> Pairs() =>
        from strategy in Strategies.Keys
        from compressor in Compressors.Keys
        where strategy != "dense" || compressor == "nothing"
        select new TestCaseData(strategy, compressor);

    public static IEnumerable<TestCaseData> Trainers() =>
        from pair in Pairs()
        from optimizer in Optimizers.Keys
        from owed in Enum.GetValues<OwedWhenFrozen>()
        select new TestCaseData(pair.Arguments[0], pair.Arguments[1], optimizer, owed);

    [TestCaseSource(nameof(Trainers))]
    public void A_frozen_layer_does_not_move_and_moves_again_when_it_is_trained_again(string strategy, string compressor, string optimizer, OwedWhenFrozen owed)
    {
        using var run = new Run(Strategies[strategy](Compressors[compressor]()), Optimizers[optimizer], owed);
        for (var step = 0; step < 12; step++) run.Step(step);
        run.Freeze(true);
        run.Step(12);
        var (trained, deployed, all) = (run.Hidden, run.DeployedHidden, run.Deployed);
        for (var step = 13; step < 40; step++) run.Step(step);

        run.Deployed.Should().NotEqual(all, "the other layer is trained");
        run.Hidden.Should().Equal(trained, "no bit of what is trained moves");
        run.DeployedHidden.Should().Equal(deployed, "no bit of what is deployed moves");
        run.Freeze(false);
        for (var step = 40; step < 60; step++) run.Step(step);
        run.DeployedHidden.Should().NotEqual(deployed);
        run.Verify();
    }

    [TestCaseSource(nameof(Pairs))]
    public void The_step_that_freezes_moves_nothing_either(string strategy, string compressor)
    {
        using var run = new Run(Strategies[strategy](Compressors[compressor]()), Optimizers["fused"], OwedWhenFrozen.Wait);
        for (var step = 0; step < 12; step++) run.Step(step);
        var (trained, deployed) = (run.Hidden, run.DeployedHidden);
        run.Freeze(true);
        run.Step(12);
        run.Hidden.Should().Equal(trained);
        run.DeployedHidden.Should().Equal(deployed);
    }

    [TestCaseSource(nameof(Pairs))]
    public void A_layer_that_is_frozen_from_the_start_keeps_every_bit(string strategy, string compressor)
    {
        using var run = new Run(Strategies[strategy](Compressors[compressor]()), Optimizers["fused"], OwedWhenFrozen.Wait, negativeZeros: true);
        run.Freeze(true);
        var hidden = run.Hidden;
        for (var step = 0; step < 10; step++) run.Step(step);
        run.Hidden.Should().Equal(hidden);
        run.DeployedHidden.Should().Equal(hidden);
    }

    [Test]
    public void What_was_owed_waits_or_is_dropped(
        [Values("update", "update ahead", "update with momentum", "gradient", "difference")] string strategy, [Values] OwedWhenFrozen owed)
    {
        using var a = nn.Parameter(zeros(4));
        using var b = nn.Parameter(zeros(4));
        using var model = new Holder(a, b);
        using var optimizer = new FusedSgd(model.parameters(), 1);
        var compressor = TopKCompressor.OfCount(4);
        using var trainer = MakePlain(
            model,
            (_, _) => Sum(a, 100) + Sum(b, 1),
            optimizer,
            strategy == "update with momentum" ? new UpdateCompression(compressor, new MomentumCorrectionMemory(momentum: 0)) : Strategies[strategy](compressor),
            owed);

        // The first parameter's updates are the larger ones, so that all that the second is owed is owed still.
        for (var step = 0; step < 3; step++) StepOnce(trainer);
        b.requires_grad = false;
        for (var step = 0; step < 3; step++) StepOnce(trainer);
        ValuesOf(trainer, "weight1").Should().OnlyContain(x => x == 0);

        // What is frozen is not sent, so that the second parameter's turn comes.
        (a.requires_grad, b.requires_grad) = (false, true);
        StepOnce(trainer);
        ValuesOf(trainer, "weight1").Should().OnlyContain(x => x == (owed == OwedWhenFrozen.Wait ? -4 : -1));
    }

    [Test]
    public void A_branch_that_the_forward_pass_does_not_use_stays_still_and_is_not_dropped([Values("update", "update ahead", "gradient", "difference")] string strategy)
    {
        using var a = nn.Parameter(zeros(8));
        using var b = nn.Parameter(zeros(8));
        using var model = new Holder(a, b);
        using var optimizer = new FusedSgd(model.parameters(), 1);
        var uses = true;
        using var trainer = MakePlain(
            model, (_, _) => uses ? Sum(a, 1) + Sum(b, 1) : Sum(a, 1), optimizer, Strategies[strategy](TopKCompressor.OfCount(2)), OwedWhenFrozen.Drop);
        for (var step = 0; step < 3; step++) StepOnce(trainer);
        uses = false;
        var still = ValuesOf(trainer, "weight1");
        for (var step = 0; step < 20; step++) StepOnce(trainer);
        ValuesOf(trainer, "weight1").Should().Equal(still);
        uses = true;

        // Enough for all that is owed: three steps' worth of the unused time, and what comes.
        for (var step = 0; step < 400; step++) StepOnce(trainer);
        (ValuesOf(trainer, "weight1").Sum() / 8).Should().BeInRange(-403, -200);
    }

    [Test]
    public void A_trainer_restored_while_a_layer_is_frozen_goes_on_bit_for_bit(
        [Values("update", "update ahead", "gradient", "difference")] string strategy, [Values("top-k", "sign of the whole model", "random-k")] string compressor, [Values] OwedWhenFrozen owed)
    {
        var path = Path.Combine(TestContext.CurrentContext.WorkDirectory, $"{Guid.NewGuid():n}.checkpoint");
        try
        {
            using var run = new Run(Strategies[strategy](Compressors[compressor]()), Optimizers["fused"], owed);
            for (var step = 0; step < 8; step++) run.Step(step);
            run.Freeze(true);
            for (var step = 8; step < 12; step++) run.Step(step);
            run.Trainer.SaveCheckpoint(path);
            using var restored = new Run(Strategies[strategy](Compressors[compressor]()), Optimizers["fused"], owed, path: path, steps: 12);
            restored.Freeze(true);
            foreach (var r in new[] { run, restored })
            {
                for (var step = 12; step < 16; step++) r.Step(step);
                r.Freeze(false);
                for (var step = 16; step < 24; step++) r.Step(step);
            }

            restored.Deployed.Should().Equal(run.Deployed);
            restored.Hidden.Should().Equal(run.Hidden);
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static ProactiveTrainer MakePlain(nn.Module model, Func<Tensor, Tensor, Tensor> loss, optim.Optimizer optimizer, IDeploymentStrategy strategy, OwedWhenFrozen owed) => new(
        model,
        loss,
        optimizer,
        new ProactiveTrainerOptions { BatchSize = 1, TriggerSize = 1, EvaluateArrivals = false, OwedWhenFrozen = owed },
        new ProactiveTrainerComponents { Strategy = strategy });

    private static Tensor Sum(Tensor tensor, float factor)
    {
        using Scalar scalar = factor;
        using var scaled = tensor.mul(scalar);
        return scaled.sum();
    }

    private static void StepOnce(ProactiveTrainer trainer)
    {
        using var inputs = zeros(1, 1);
        using var targets = zeros(1);
        trainer.Step(inputs, targets).Dispose();
    }

    private static float[] ValuesOf(ProactiveTrainer trainer, string name)
    {
        var snapshot = trainer.CreateSnapshot();
        var entry = Enumerable.Range(0, snapshot.Layout.Entries.Count).First(i => snapshot.Layout.Entries[i].Name == name);
        return System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(snapshot.Values(entry)).ToArray();
    }

    /// <summary>A trainer of a model whose first layer may be frozen.</summary>
    private sealed class Run : IDisposable
    {
        private readonly Sequential model = TestModels.Mlp();
        private readonly CrossEntropyLoss loss = nn.CrossEntropyLoss();
        private readonly optim.Optimizer optimizer;
        private readonly ModelReplica<Sequential> replica;

        public Run(
            IDeploymentStrategy strategy, Func<IEnumerable<Parameter>, optim.Optimizer> makeOptimizer, OwedWhenFrozen owed, bool negativeZeros = false, string? path = null, int steps = 0)
        {
            using var generator = new Generator(5, CPU);
            using (no_grad())
            {
                foreach (var parameter in model.parameters())
                {
                    using var values = randn(parameter.shape, generator: generator);
                    _ = parameter.copy_(values);
                    if (negativeZeros) _ = parameter.mul_(parameter.abs().floor()).neg_();
                }
            }

            optimizer = makeOptimizer(model.parameters());
            var options = new ProactiveTrainerOptions { BatchSize = 8, TriggerSize = 4, OwedWhenFrozen = owed };
            var history = new InMemorySampleHistory();
            var components = new ProactiveTrainerComponents { Strategy = strategy, History = history };
            for (var step = 0; step < steps; step++)
            {
                using var scope = NewDisposeScope();
                var (inputs, targets) = TestModels.Arrivals(4, step);
                history.Append(inputs, targets);
            }

            Trainer = path is null ? new ProactiveTrainer(model, loss, optimizer, options, components) : ProactiveTrainer.Restore(path, model, loss, optimizer, options, components);
            replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), Trainer.CreateSnapshot());
        }

        public ProactiveTrainer Trainer { get; }

        public byte[] Hidden => [.. model.named_parameters().Where(p => p.name.StartsWith("hidden", StringComparison.Ordinal)).SelectMany(p => TestModels.Bytes(p.parameter))];

        public byte[] Deployed => StateOf(_ => true);

        public byte[] DeployedHidden => StateOf(name => name.StartsWith("hidden", StringComparison.Ordinal));

        public void Freeze(bool frozen)
        {
            foreach (var (_, parameter) in model.named_parameters().Where(p => p.name.StartsWith("hidden", StringComparison.Ordinal))) parameter.requires_grad = !frozen;
        }

        public void Step(int seed)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, seed);
            using var result = Trainer.Step(inputs, targets);
            replica.Apply(result.Update!);
        }

        public void Verify()
        {
            replica.Verify().Should().BeTrue();
            replica.CreateSnapshot().StateDigest.Should().Be(Trainer.CreateSnapshot().StateDigest);
        }

        public void Dispose()
        {
            replica.Dispose();
            Trainer.Dispose();
            optimizer.Dispose();
            loss.Dispose();
            model.Dispose();
        }

        private byte[] StateOf(Func<string, bool> chosen)
        {
            var snapshot = replica.CreateSnapshot();
            return [.. Enumerable.Range(0, snapshot.Layout.Entries.Count).Where(i => chosen(snapshot.Layout.Entries[i].Name)).SelectMany(i => snapshot.Values(i).ToArray())];
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
