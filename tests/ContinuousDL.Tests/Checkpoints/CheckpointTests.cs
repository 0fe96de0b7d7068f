using System.IO.Hashing;
using System.Runtime.InteropServices;
using ContinuousDL.Checkpoints;
using ContinuousDL.Cuda;
using ContinuousDL.Deployment;
using ContinuousDL.Evaluation;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Residuals;
using ContinuousDL.Sampling;
using ContinuousDL.Tests.Compression;
using ContinuousDL.Tests.Sampling;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Checkpoints;

/// <summary>A trainer that is restored from a checkpoint takes the very steps that it would have taken; or says why it can't be restored.</summary>
public class CheckpointTests
{
    private const int StepsAfter = 100;
    private string folder = "";

    private string Path => System.IO.Path.Combine(folder, "trainer.checkpoint");

    /// <summary>Every strategy, and every compressor, optimizer and sampler with some of them.</summary>
    public static IEnumerable<TestCaseData> Trainers()
    {
        var optimizers = Setup.Optimizers.Keys.ToArray();
        var samplers = Samplers.Drawing;
        var compressors = CompressorContractTests.Names;
        var number = 0;
        for (var s = 0; s < Setup.Strategies.Length; s++)
        {
            // A third of all pairs: each compressor with one or two of the strategies.
            var strategy = Setup.Strategies[s];
            foreach (var compressor in strategy.UsesCompressor ? compressors.Where((_, c) => (c + s) % 3 == 0) : ["none"])
            {
                var setup = new Setup
                {
                    Strategy = strategy.Name,
                    Compressor = compressor,
                    Optimizer = optimizers[number % optimizers.Length],
                    Sampler = samplers[number % samplers.Length],
                    WithReplacement = number % 4 == 3,
                    AlwaysIncludeNew = number % 5 != 4,
                    Buffers = (BufferDeploymentMode)(number % 3),
                    Seed = number,
                };
                number++;
                yield return new TestCaseData(setup).SetArgDisplayNames($"{setup}");
            }
        }
    }

    [SetUp]
    public void MakeFolder() => folder = Directory.CreateTempSubdirectory("checkpoint-").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(folder, recursive: true);

    [TestCaseSource(nameof(Trainers))]
    public void Restored_trainer_takes_the_steps_that_would_have_followed(Setup setup)
    {
        random.manual_seed(setup.Seed);
        using var run = new Run(setup);
        run.Step(0, 15);
        run.Observe(15);
        run.Trainer.SaveCheckpoint(Path);
        var expected = run.Step(16, StepsAfter);

        random.manual_seed(12345);
        using var restored = new Run(setup, Path, 16);
        restored.Trainer.PendingSamples.Should().Be(run.PendingAtSave(16));
        var actual = restored.Step(16, StepsAfter);

        actual.Should().Equal(expected);
        restored.Trainer.Deployed.RunId.Should().Be(run.Trainer.Deployed.RunId);
        TestModels.State(restored.Model).Should().Equal(TestModels.State(run.Model));
        restored.Trainer.Evaluator.Summary.Should().BeEquivalentTo(run.Trainer.Evaluator.Summary);
        using var replica = new ModelReplica<nn.Module<Tensor, Tensor>>(Setup.NewModel, restored.Trainer.CreateSnapshot());
        replica.Digest.Should().Be(run.Trainer.Deployed.Digest);
    }

    [Test]
    public void Saving_does_not_change_the_steps_that_follow()
    {
        var setup = new Setup { Compressor = "random-k", Seed = 3 };
        random.manual_seed(1);
        using var saved = new Run(setup);
        saved.Step(0, 5);
        saved.Trainer.SaveCheckpoint(Path);
        var after = saved.Step(5, 20);

        random.manual_seed(1);
        using var never = new Run(setup);
        never.Step(0, 5);
        never.Step(5, 20).Should().Equal(after);
    }

    [Test]
    public void Restored_trainer_goes_on_with_what_schedulers_had_changed([ValueSource(nameof(OptimizerNames))] string optimizer)
    {
        var setup = new Setup { Optimizer = optimizer, Seed = 4 };
        random.manual_seed(1);
        using var run = new Run(setup);
        run.Step(0, 3);
        foreach (var group in run.Optimizer.ParamGroups) group.LearningRate = 0.0123;
        if (run.Optimizer.ParamGroups.First() is optim.IMomentum momentum) momentum.Momentum = 0.77;
        if (run.Optimizer.ParamGroups.First() is optim.IBetas betas) betas.Betas = (0.8, 0.95);
        run.Trainer.SaveCheckpoint(Path);
        var expected = run.Step(3, 20);

        using var restored = new Run(setup, Path, 3);
        restored.Optimizer.ParamGroups.First().LearningRate.Should().Be(0.0123);
        restored.Step(3, 20).Should().Equal(expected);
    }

    [Test]
    public void Optimizer_state_outlives_a_dispose_scope_around_the_restore([ValueSource(nameof(OptimizerNames))] string optimizer)
    {
        var setup = new Setup { Optimizer = optimizer, Seed = 4 };
        random.manual_seed(1);
        using var run = new Run(setup);
        run.Step(0, 3);
        run.Trainer.SaveCheckpoint(Path);
        var expected = run.Step(3, 10);

        Run restored;
        using (NewDisposeScope())
        {
            restored = new Run(setup, Path, 3);
            restored.KeepModel();
        }

        restored.Step(3, 10).Should().Equal(expected);
        restored.Dispose();
    }

    [Test]
    public void Restored_trainer_with_a_history_on_disk_finds_its_samples_and_those_that_came_after_the_checkpoint()
    {
        var setup = new Setup { Seed = 5 };
        var samples = System.IO.Path.Combine(folder, "samples");
        random.manual_seed(1);
        List<string> expected;
        using (var run = new Run(setup, history: new MappedSampleHistory(samples)))
        {
            run.Step(0, 5);
            run.Trainer.SaveCheckpoint(Path);
            expected = run.Step(5, 1);
            run.Trainer.PendingSamples.Should().Be(0);
        }

        using var restored = new Run(setup, Path, 0, new MappedSampleHistory(samples));
        restored.Trainer.PendingSamples.Should().Be(Setup.ArrivalsPerStep, "what was trained on after the checkpoint is new again");
        restored.StepWithoutArrivals().Should().Be(expected[0]);
    }

    [Test]
    public void Checkpoint_damaged_in_any_byte_or_cut_short_anywhere_is_refused_and_changes_nothing()
    {
        var setup = new Setup { Seed = 6 };
        using (var run = new Run(setup))
        {
            run.Step(0, 2);
            run.Trainer.SaveCheckpoint(Path);
        }

        var whole = File.ReadAllBytes(Path);
        var random = new Random(7);
        using var model = Setup.NewModel();
        using var optimizer = setup.NewOptimizer(model);
        using var history = new InMemorySampleHistory();
        var before = TestModels.State(model);
        for (var attempt = 0; attempt < 300; attempt++)
        {
            var position = attempt < 40 ? attempt : random.Next(whole.Length);
            var damaged = attempt % 3 == 0 ? whole[..position] : [.. whole];
            if (attempt % 3 == 1) damaged[position] ^= (byte)(1 << random.Next(8));
            if (attempt % 3 == 2) damaged = [.. whole, .. new byte[1 + (position % 9)]];
            File.WriteAllBytes(Path, damaged);
            var restore = () => ProactiveTrainer.Restore(Path, model, nn.CrossEntropyLoss(), optimizer, Setup.Options(setup), setup.NewComponents(history));
            restore.Should().Throw<CheckpointException>();
        }

        TestModels.State(model).Should().Equal(before);
    }

    [Test]
    public void Checkpoint_of_another_trainer_is_refused_by_name_and_changes_nothing()
    {
        var setup = new Setup { Seed = 6, Sampler = "inverse-frequency" };
        using (var run = new Run(setup))
        {
            run.Step(0, 4);
            run.Trainer.SaveCheckpoint(Path);
        }

        ShouldBeRefused(setup with { Sampler = "uniform" }, "*sampler was a *InverseFrequencySampler*UniformSampler*");
        ShouldBeRefused(setup with { Optimizer = "fused adamw" }, "*optimizer was a *FusedAdam,*FusedAdamW*");
        ShouldBeRefused(setup with { Optimizer = "adam" }, "*optimizer was a *FusedAdam,*TorchOptimizerRule*");
        ShouldBeRefused(setup with { Strategy = "gradient compression" }, "*strategy was a *UpdateCompression*");
        ShouldBeRefused(setup with { Strategy = "update compression" }, "*strategy*look-ahead*");
        ShouldBeRefused(setup with { Compressor = "random-k" }, "*deployment strategy*does not fit*");
        ShouldBeRefused(setup, "*16 samples*ends at 12*", samples: 12);
        ShouldBeRefused(setup, "*architecture*tensor 2 is parameter norm.weight*", model: () => TestModels.Mlp());
    }

    [Test]
    public void Missing_checkpoint_is_said_to_be_missing()
    {
        using var model = Setup.NewModel();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        var restore = () => ProactiveTrainer.Restore(Path, model, nn.CrossEntropyLoss(), optimizer);
        restore.Should().Throw<FileNotFoundException>();
    }

    [TestCase('2', "*version 2*reads 3*older*the release of the library that saved it*")]
    [TestCase('4', "*version 4*reads 3*newer release*")]
    public void Checkpoint_of_another_version_is_refused_with_what_to_do(char version, string message)
    {
        using (var run = new Run(new Setup())) run.Trainer.SaveCheckpoint(Path);
        var bytes = File.ReadAllBytes(Path);
        bytes[7] = (byte)version;
        File.WriteAllBytes(Path, bytes);
        using var model = Setup.NewModel();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        var restore = () => ProactiveTrainer.Restore(Path, model, nn.CrossEntropyLoss(), optimizer);
        restore.Should().Throw<CheckpointException>().WithMessage(message);
    }

    [Test]
    public async Task Saves_in_flight_are_written_in_order_each_with_the_state_of_its_call()
    {
        var setup = new Setup { Seed = 8 };
        using var run = new Run(setup);
        var saves = new List<Task>();
        for (var i = 0; i < 5; i++)
        {
            run.Step(i, 1);
            saves.Add(run.Trainer.SaveCheckpointAsync(Path));
        }

        await Task.WhenAll(saves);
        Directory.GetFiles(folder).Should().Equal(Path);
        using var restored = new Run(setup, Path, 5);
        restored.Trainer.Deployed.Sequence.Should().Be(5);
        restored.Trainer.Deployed.Digest.Should().Be(run.Trainer.Deployed.Digest);
    }

    [Test]
    public async Task Save_that_fails_says_so_and_leaves_the_last_one_and_the_trainer_as_they_are()
    {
        var setup = new Setup { Seed = 9 };
        using var run = new Run(setup);
        run.Step(0, 1);
        run.Trainer.SaveCheckpoint(Path);
        run.Step(1, 1);

        // Where the file is written first, there is a directory.
        Directory.CreateDirectory(Path + ".new");
        await run.Trainer.Awaiting(t => t.SaveCheckpointAsync(Path)).Should().ThrowAsync<Exception>();
        Directory.Delete(Path + ".new");
        using (var cancelled = new CancellationTokenSource())
        {
            cancelled.Cancel();
            await run.Trainer.Awaiting(t => t.SaveCheckpointAsync(Path, cancelled.Token)).Should().ThrowAsync<OperationCanceledException>();
        }

        using (var restored = new Run(setup, Path, 1)) restored.Trainer.Deployed.Sequence.Should().Be(1);
        run.Step(2, 1);
        run.Trainer.SaveCheckpoint(Path);
        using var later = new Run(setup, Path, 3);
        later.Trainer.Deployed.Sequence.Should().Be(3);
    }

    [Test]
    public void Dispose_waits_for_saves_that_are_being_written()
    {
        Task save;
        using (var run = new Run(new Setup()))
        {
            run.Step(0, 1);
            save = run.Trainer.SaveCheckpointAsync(Path);
        }

        save.IsCompletedSuccessfully.Should().BeTrue();
    }

    private static IEnumerable<string> OptimizerNames() => Setup.Optimizers.Keys;

    private void ShouldBeRefused(Setup setup, string message, int samples = 16, Func<nn.Module<Tensor, Tensor>>? model = null)
    {
        using var scope = NewDisposeScope();
        var target = (model ?? Setup.NewModel)();
        using var optimizer = setup.NewOptimizer(target);
        using var history = new InMemorySampleHistory();
        var (inputs, targets) = TestModels.Arrivals(samples, 1);
        history.Append(inputs, targets);
        var before = TestModels.State(target);
        var restore = () => ProactiveTrainer.Restore(Path, target, nn.CrossEntropyLoss(), optimizer, Setup.Options(setup), setup.NewComponents(history));
        restore.Should().Throw<CheckpointException>().WithMessage(message);
        TestModels.State(target).Should().Equal(before);
        history.Count.Should().Be(samples, "the history stays usable");
    }

    /// <summary>What a trainer is made of.</summary>
    public sealed record Setup
    {
        public const int ArrivalsPerStep = 4;

        public static readonly (string Name, bool UsesCompressor)[] Strategies =
        [
            ("update compression", true), ("update compression with look-ahead", true), ("gradient compression", true),
            ("gradient compression with momentum correction", true), ("replica difference", true), ("dense", false), ("on a device", false),
        ];

        public static readonly Dictionary<string, Func<nn.Module, optim.Optimizer>> Optimizers = new()
        {
            ["fused sgd"] = m => new FusedSgd(m.parameters(), 0.02, momentum: 0.9, weightDecay: 1e-3),
            ["fused adam"] = m => new FusedAdam(m.parameters(), 0.005, amsGrad: true),
            ["fused adamw"] = m => new FusedAdamW(m.parameters(), 0.005),
            ["adam"] = m => optim.Adam(m.parameters(), 0.005, amsgrad: true),
            ["sgd"] = m => optim.SGD(m.parameters(), 0.02, momentum: 0.9),
            ["rmsprop"] = m => optim.RMSProp(m.parameters(), 0.002, momentum: 0.5, centered: true),
        };

        public string Strategy { get; init; } = "update compression with look-ahead";

        public string Compressor { get; init; } = "top-k";

        public string Optimizer { get; init; } = "fused adam";

        public string Sampler { get; init; } = "uniform";

        public bool WithReplacement { get; init; }

        public bool AlwaysIncludeNew { get; init; } = true;

        public BufferDeploymentMode Buffers { get; init; } = BufferDeploymentMode.EveryUpdate;

        public int Seed { get; init; }

        public static ProactiveTrainerOptions Options(Setup setup) => new()
        {
            BatchSize = 12,
            TriggerSize = ArrivalsPerStep,
            NonFinite = NonFiniteHandling.Skip,
            Buffers = new() { Mode = setup.Buffers, Interval = 7, Count = 5 },
        };

        public static nn.Module<Tensor, Tensor> NewModel() => TestModels.WithBatchNorm();

        public optim.Optimizer NewOptimizer(nn.Module model) => Optimizers[Optimizer](model);

        public ProactiveTrainerComponents NewComponents(ISampleHistory history) => new()
        {
            History = history,
            Sampler = Samplers.Make(Sampler, AlwaysIncludeNew, WithReplacement, shuffle: true, seed: (ulong)Seed),
            Strategy = NewStrategy(),
            Evaluator = new ClassificationEvaluator(new() { ClassCount = TestModels.Classes }),
        };

        public override string ToString() => $"{Strategy}, {Compressor}, {Optimizer}, {Sampler}";

        private IDeploymentStrategy NewStrategy()
        {
            var compressor = CompressorContractTests.Compressors[Compressor]((ulong)Seed + 1);
            return Strategy switch
            {
                "update compression" => new UpdateCompression(compressor, Seed % 3 == 0 ? new NoResidualMemory() : null),
                "update compression with look-ahead" => new UpdateCompression(compressor, lookahead: 0.5),
                "gradient compression" => new GradientCompression(compressor, new ErrorFeedbackMemory(0.9)),
                "gradient compression with momentum correction" => new GradientCompression(compressor, new MomentumCorrectionMemory(0.5, clipNorm: 1)),
                "replica difference" => new ReplicaDifference(compressor),
                "dense" => new DenseDeployment(),
                _ => new CudaUpdateCompression(0.05),
            };
        }
    }

    /// <summary>A trainer, from the start or restored, and what it does.</summary>
    private sealed class Run : IDisposable
    {
        public Run(Setup setup, string? checkpoint = null, int arrived = 0, ISampleHistory? history = null)
        {
            Model = Setup.NewModel();
            Optimizer = setup.NewOptimizer(Model);
            history ??= new InMemorySampleHistory();
            for (var i = 0; i < arrived; i++) Append(history, i);
            var (options, components) = (Setup.Options(setup), setup.NewComponents(history));
            Trainer = checkpoint is null
                ? new ProactiveTrainer(Model, nn.CrossEntropyLoss(), Optimizer, options, components)
                : ProactiveTrainer.Restore(checkpoint, Model, nn.CrossEntropyLoss(), Optimizer, options, components);
        }

        public nn.Module<Tensor, Tensor> Model { get; }

        public optim.Optimizer Optimizer { get; }

        public ProactiveTrainer Trainer { get; }

        /// <summary>Steps, each with its arrivals, and says everything that each did.</summary>
        public List<string> Step(int first, int count)
        {
            var steps = new List<string>();
            for (var i = first; i < first + count; i++)
            {
                Observe(i);
                steps.Add(StepWithoutArrivals());
            }

            return steps;
        }

        public string StepWithoutArrivals()
        {
            using var result = Trainer.Step();
            var update = result.Update;
            if (update is null) return $"{result.Loss:R} {result.NewSamples} {result.SkipReason}";
            var changes = XxHash3.HashToUInt64(update.Values) ^ XxHash3.HashToUInt64(MemoryMarshal.AsBytes(update.Coordinates), 1);
            return $"{result.Loss:R} {result.NewSamples} {update.Sequence} {update.Count} {update.StateDigest:x} {changes:x}";
        }

        public void Observe(int number)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(Setup.ArrivalsPerStep, number);
            Trainer.Observe(inputs, targets);
        }

        /// <summary>How many samples were pending when the last step had been taken and one more batch had arrived.</summary>
        public long PendingAtSave(int arrived) => Setup.ArrivalsPerStep * (arrived - 15);

        /// <summary>Takes the model out of the dispose scope that it was made in.</summary>
        public void KeepModel()
        {
            foreach (var tensor in Model.parameters().Cast<Tensor>().Concat(Model.buffers())) tensor.DetachFromDisposeScope();
        }

        public void Dispose()
        {
            Trainer.Dispose();
            Optimizer.Dispose();
            Model.Dispose();
        }

        private static void Append(ISampleHistory history, int number)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(Setup.ArrivalsPerStep, number);
            history.Append(inputs, targets);
        }
    }
}
