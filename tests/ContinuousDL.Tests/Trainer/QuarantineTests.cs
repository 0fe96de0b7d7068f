using System.Diagnostics.Metrics;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Diagnostics;
using ContinuousDL.Failures;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Sampling;
using ContinuousDL.State;
using Microsoft.Extensions.Logging;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>A sample that a batch can't be trained on with costs one step: it is found, listed, and never drawn again.</summary>
public class QuarantineTests
{
    private const int Ignored = -100;

    private static readonly NonFiniteHandling[] Handlings = Enum.GetValues<NonFiniteHandling>();

    /// <summary>What can be wrong with a sample.</summary>
    public static readonly string[] Faults = ["NaN", "infinity", "label", "negative label"];

    [Test]
    public void One_bad_sample_costs_one_step(
        [ValueSource(nameof(Handlings))] NonFiniteHandling handling, [ValueSource(nameof(Faults))] string fault, [Values] bool atTheStart, [Values] bool alwaysIncludeNew)
    {
        random.manual_seed(1);
        using var model = TestModels.WithBatchNorm();
        using var run = new Run(model, handling, new UniformSampler(new SamplerOptions { AlwaysIncludeNew = alwaysIncludeNew }));
        for (var trigger = 0; trigger < (atTheStart ? 0 : 10); trigger++) run.Take(trigger);
        var bad = run.History.EndIndex + 3;
        var lost = run.Take(100, (inputs, targets) => Spoil(fault, inputs, targets, 3)) ? 0 : 1;
        for (var trigger = 0; trigger < 59; trigger++) lost += run.Take(200 + trigger) ? 0 : 1;

        lost.Should().BeLessThanOrEqualTo(1);
        run.Trainer.PendingSamples.Should().Be(0);
        run.Trainer.QuarantinedSamples.Should().HaveCount(lost, "without it having been drawn there is nothing to see");
        if (lost == 0) return;
        var found = run.Trainer.QuarantinedSamples.Should().ContainSingle().Subject;
        found.Index.Should().Be(bad);
        found.Reason.Should().Be(fault.EndsWith("label", StringComparison.Ordinal) ? SkipReason.Failure : SkipReason.NonFiniteLoss);
        run.Reported.Should().Equal(found);
        run.History.Drawn.Should().NotBeEmpty().And.NotContain(bad);
        model.parameters().Should().OnlyContain(p => p.isfinite().all().item<bool>());
    }

    [Test]
    public void Several_bad_samples_of_one_batch_are_found_together([ValueSource(nameof(Handlings))] NonFiniteHandling handling, [Values] bool atTheStart)
    {
        using var model = TestModels.WithBatchNorm();
        using var run = new Run(model, handling);
        for (var trigger = 0; trigger < (atTheStart ? 0 : 5); trigger++) run.Take(trigger);
        var start = run.History.EndIndex;
        run.Take(100, (inputs, targets) =>
        {
            foreach (var row in new[] { 0, 3, 6 }) Spoil("NaN", inputs, targets, row);
            Spoil("label", inputs, targets, 7);
        }).Should().BeFalse();
        run.Trainer.QuarantinedSamples.Select(s => s.Index).Should().Equal(start, start + 3, start + 6, start + 7);
        run.Trainer.PendingSamples.Should().Be(4);
        using var result = run.Trainer.Step();
        result.NewSamples.Should().Be(4, "the good samples of the batch were not trained on yet");
        result.IsSkipped.Should().BeFalse();
    }

    [Test]
    public void Whole_trigger_of_bad_samples_is_found_among_good_ones([ValueSource(nameof(Handlings))] NonFiniteHandling handling)
    {
        using var model = TestModels.Mlp();
        using var run = new Run(model, handling, batchSize: 8);
        for (var trigger = 0; trigger < 3; trigger++) run.Take(trigger);
        run.Take(100, (inputs, _) => inputs.fill_(float.NaN)).Should().BeFalse();
        run.Trainer.QuarantinedSamples.Should().HaveCount(8);
        run.Trainer.PendingSamples.Should().Be(0);
        run.Take(4).Should().BeTrue();
    }

    [Test]
    public void Batch_whose_labels_are_all_ignored_blames_nobody(
        [ValueSource(nameof(Handlings))] NonFiniteHandling handling, [Values] bool atTheStart)
    {
        using var model = TestModels.WithBatchNorm();
        using var run = new Run(model, handling, batchSize: 8);
        for (var trigger = 0; trigger < (atTheStart ? 0 : 3); trigger++) run.Take(trigger);
        run.Take(100, (_, targets) => targets.fill_(Ignored)).Should().BeFalse();
        run.Trainer.PendingSamples.Should().Be(0, "nothing piles up");
        for (var trigger = 0; trigger < 20; trigger++) run.Take(200 + trigger).Should().BeTrue();
        run.Trainer.QuarantinedSamples.Should().BeEmpty();
    }

    [Test]
    public void Ignored_labels_beside_a_bad_sample_are_innocent([Values] bool atTheStart)
    {
        using var model = TestModels.WithBatchNorm();
        using var run = new Run(model, NonFiniteHandling.Skip);
        for (var trigger = 0; trigger < (atTheStart ? 0 : 3); trigger++) run.Take(trigger);
        var start = run.History.EndIndex;
        run.Take(100, (inputs, targets) =>
        {
            for (var row = 0; row < 7; row++) targets[row] = Ignored;
            Spoil("NaN", inputs, targets, 2);
        });
        run.Trainer.QuarantinedSamples.Select(s => s.Index).Should().BeSubsetOf([start + 2]);
        for (var trigger = 0; trigger < 20; trigger++) run.Take(200 + trigger);
        run.Trainer.QuarantinedSamples.Select(s => s.Index).Should().Equal(start + 2);
    }

    [Test]
    public void Model_that_has_diverged_puts_nothing_into_quarantine([ValueSource(nameof(Handlings))] NonFiniteHandling handling)
    {
        using var model = TestModels.Mlp();
        using var run = new Run(model, handling);
        for (var trigger = 0; trigger < 3; trigger++) run.Take(trigger);
        var good = run.Trainer.CreateSnapshot();
        using (no_grad())
        {
            foreach (var parameter in model.parameters()) parameter.fill_(float.NaN);
        }

        for (var trigger = 3; trigger < 6; trigger++) run.Take(trigger).Should().BeFalse();
        run.Trainer.QuarantinedSamples.Should().BeEmpty();
        run.Trainer.PendingSamples.Should().Be(0);
        good.CopyTo(model);
        run.Take(7).Should().BeTrue();
    }

    [Test]
    public void Inputs_that_make_the_model_throw_are_found([ValueSource(nameof(Handlings))] NonFiniteHandling handling)
    {
        using var model = TestModels.Mlp();
        using var loss = nn.CrossEntropyLoss();
        using var run = new Run(model, handling, batchLoss: (inputs, targets) =>
        {
            using var largest = inputs.max();
            if (largest.item<float>() > 1000) throw new TimeZoneNotFoundException("Out of this world.");
            return loss.call(model.call(inputs), targets);
        });
        for (var trigger = 0; trigger < 3; trigger++) run.Take(trigger);
        run.Take(3, (inputs, _) => inputs[5, 0] = 2000).Should().BeFalse();
        run.Trainer.QuarantinedSamples.Should().ContainSingle().Which.Should().Match<QuarantinedSample>(s => s.Index == 29 && s.Message.Contains("Out of this world."));
        if (handling == NonFiniteHandling.Throw) run.Thrown.Should().BeOfType<BatchFailedException>().Which.InnerException.Should().BeOfType<TimeZoneNotFoundException>();
        run.Take(4).Should().BeTrue();
    }

    [Test]
    public void Exception_that_no_sample_is_the_reason_of_is_thrown_as_it_is([ValueSource(nameof(Handlings))] NonFiniteHandling handling)
    {
        using var model = TestModels.Mlp();
        using var loss = nn.CrossEntropyLoss();
        var fail = false;
        using var run = new Run(model, handling, batchLoss: (inputs, targets) => fail ? throw new TimeZoneNotFoundException() : loss.call(model.call(inputs), targets));
        run.Take(1).Should().BeTrue();
        fail = true;
        run.Observe(2);
        run.Trainer.Invoking(t => t.Step()).Should().Throw<TimeZoneNotFoundException>();
        fail = false;
        run.Trainer.QuarantinedSamples.Should().BeEmpty();
        run.Trainer.PendingSamples.Should().Be(0);
        run.Take(3).Should().BeTrue();
    }

    [Test]
    public void Failure_of_large_batches_is_no_samples_fault()
    {
        using var model = TestModels.Mlp();
        using var loss = nn.CrossEntropyLoss();
        using var run = new Run(model, NonFiniteHandling.Skip, batchLoss: (inputs, targets) =>
            inputs.shape[0] >= 13 ? throw new InvalidOperationException("There is no room for so many.") : loss.call(model.call(inputs), targets));
        run.Take(1).Should().BeTrue();
        run.Observe(2);
        run.Trainer.Invoking(t => t.Step()).Should().Throw<InvalidOperationException>();
        run.Trainer.QuarantinedSamples.Should().BeEmpty();
    }

    [Test]
    public void Failure_that_does_not_come_again_is_no_samples_fault()
    {
        using var model = TestModels.Mlp();
        using var loss = nn.CrossEntropyLoss();
        var calls = 0;
        using var run = new Run(model, NonFiniteHandling.Skip, batchLoss: (inputs, targets) =>
            ++calls == 3 ? full(1, float.NaN) : loss.call(model.call(inputs), targets));
        run.Take(1).Should().BeTrue();
        run.Take(2).Should().BeTrue();
        run.Take(3).Should().BeFalse();
        run.Take(4).Should().BeTrue();
        run.Trainer.QuarantinedSamples.Should().BeEmpty();
    }

    [Test]
    public void Overflow_of_float16_by_one_sample_is_found()
    {
        using var model = TestModels.Mlp(ScalarType.Float16);
        using var run = new Run(model, NonFiniteHandling.Skip, dtype: ScalarType.Float16, batchLoss: (inputs, _) => model.call(inputs).square().mean());
        for (var trigger = 0; trigger < 3; trigger++) run.Take(trigger).Should().BeTrue();
        run.Take(3, (inputs, _) =>
        {
            using var row = inputs[6];
            row.fill_(65000);
        }).Should().BeFalse();
        run.Trainer.QuarantinedSamples.Select(s => s.Index).Should().Equal(30);
        run.Take(4).Should().BeTrue();
    }

    [Test]
    public void Non_finite_gradient_is_traced_to_its_sample()
    {
        using var weight = nn.Parameter(ones(1));
        using var model = new Scale(weight);
        using var run = new Run(model, NonFiniteHandling.Throw, batchLoss: (inputs, _) => inputs.select(1, 0).mul(weight).abs().sqrt().mean());
        for (var trigger = 0; trigger < 3; trigger++) run.Take(trigger).Should().BeTrue();
        run.Take(3, (inputs, _) => inputs[1, 0] = 0).Should().BeFalse();
        run.Trainer.QuarantinedSamples.Should().ContainSingle().Which.Should().Match<QuarantinedSample>(
            s => s.Index == 25 && s.Reason == SkipReason.NonFiniteGradient && s.Message.Contains("weight"));
        run.Thrown.Should().BeOfType<NonFiniteException>().Which.Quarantined.Should().Equal(run.Trainer.QuarantinedSamples);
    }

    [Test]
    public void Damaged_samples_of_a_history_are_set_aside([ValueSource(nameof(Handlings))] NonFiniteHandling handling)
    {
        using var model = TestModels.Mlp();
        using var run = new Run(model, handling);
        for (var trigger = 0; trigger < 2; trigger++) run.Take(trigger);
        run.History.Damaged.UnionWith([2, 9, 17]);
        var lost = 0;
        for (var trigger = 2; trigger < 30; trigger++) lost += run.Take(trigger) ? 0 : 1;
        lost.Should().BeInRange(1, 3);
        run.Trainer.QuarantinedSamples.Select(s => (s.Index, s.Reason)).Should().Equal(
            (2, SkipReason.UnreadableSample), (9, SkipReason.UnreadableSample), (17, SkipReason.UnreadableSample));
        run.Trainer.PendingSamples.Should().Be(0);
    }

    [Test]
    public void Search_leaves_model_buffers_and_random_state_as_they_were()
    {
        random.manual_seed(5);
        using var model = TestModels.WithBatchNorm();
        using var run = new Run(model, NonFiniteHandling.Skip);
        for (var trigger = 0; trigger < 3; trigger++) run.Take(trigger);
        var (state, digest) = (TestModels.State(model), run.Trainer.Deployed.Digest);
        run.Take(3, (inputs, targets) => Spoil("infinity", inputs, targets, 1)).Should().BeFalse();
        TestModels.State(model).Should().Equal(state);
        run.Trainer.Deployed.Digest.Should().Be(digest);
        model.parameters().Should().OnlyContain(p => Equals(p.grad, null));
    }

    [Test]
    public void Search_draws_no_random_numbers_that_later_steps_would_have_drawn()
    {
        random.manual_seed(5);
        using var model = TestModels.WithBatchNorm();
        using var loss = nn.CrossEntropyLoss();
        var states = new List<byte[]>();
        using var run = new Run(model, NonFiniteHandling.Skip, batchLoss: (inputs, targets) =>
        {
            var value = loss.call(model.call(inputs), targets);
            states.Add(RandomState());
            return value;
        });
        for (var trigger = 0; trigger < 3; trigger++) run.Take(trigger);
        states.Clear();
        run.Take(3, (inputs, targets) => Spoil("NaN", inputs, targets, 1)).Should().BeFalse();
        states.Should().HaveCountGreaterThan(3);
        RandomState().Should().Equal(states[0], "that is what the failed step left");

        static byte[] RandomState()
        {
            using var state = random.get_rng_state();
            return TestModels.Bytes(state);
        }
    }

    [Test]
    public void Quarantine_is_logged_and_counted()
    {
        var counted = new List<string>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Name == "continuousdl.quarantined_samples") l.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((_, count, tags, _) => counted.Add($"{count} {tags[0].Value}"));
        listener.Start();
        var logger = new Messages();
        using var model = TestModels.Mlp();
        using var run = new Run(model, NonFiniteHandling.Throw, logger: logger);
        run.Take(0);
        run.Take(1, (inputs, targets) => Spoil("NaN", inputs, targets, 1));

        counted.Should().Equal("1 non_finite_loss");
        logger.All.Should().ContainSingle(m => m.StartsWith("Warning: Sample 9 was put into quarantine after sequence 1: The loss is NaN", StringComparison.Ordinal));
    }

    [Test]
    public void Last_good_batch_with_samples_that_have_become_bad_still_gives_a_control_group()
    {
        using var model = TestModels.Mlp();
        using var loss = nn.CrossEntropyLoss();
        var limit = float.PositiveInfinity;
        using var run = new Run(model, NonFiniteHandling.Skip, batchLoss: (inputs, targets) =>
        {
            using var largest = inputs.max();
            return largest.item<float>() > limit ? full(1, float.NaN) : loss.call(model.call(inputs), targets);
        });
        run.Take(0, (inputs, _) => (inputs[1, 0], inputs[6, 0]) = (50, 50)).Should().BeTrue();
        limit = 40;
        run.Take(1).Should().BeFalse();
        run.Trainer.QuarantinedSamples.Select(s => s.Index).Should().Equal(1, 6);
        run.Take(2).Should().BeTrue();
    }

    [Test]
    public void Runs_with_bad_samples_are_deterministic()
    {
        Once().Should().Equal(Once());

        static byte[] Once()
        {
            random.manual_seed(11);
            using var model = TestModels.WithBatchNorm();
            using var run = new Run(model, NonFiniteHandling.Skip);
            for (var trigger = 0; trigger < 30; trigger++)
            {
                run.Take(trigger, (inputs, targets) =>
                {
                    if (trigger % 7 == 3) Spoil("NaN", inputs, targets, trigger % 8);
                });
            }

            run.Trainer.QuarantinedSamples.Should().HaveCount(4);
            return TestModels.State(model);
        }
    }

    [Test]
    public void Search_takes_few_trials()
    {
        using var model = TestModels.Mlp();
        using var loss = nn.CrossEntropyLoss();
        var calls = 0;
        using var run = new Run(model, NonFiniteHandling.Skip, batchSize: 128, batchLoss: (inputs, targets) =>
        {
            calls++;
            return loss.call(model.call(inputs), targets);
        });
        for (var trigger = 0; trigger < 16; trigger++) run.Take(trigger);
        calls.Should().Be(16, "where nothing fails there is one call for each step");
        calls = 0;
        run.Take(16, (inputs, targets) => Spoil("NaN", inputs, targets, 3));
        run.Trainer.QuarantinedSamples.Should().ContainSingle();
        calls.Should().BeLessThanOrEqualTo(4 + (2 * 7), "the batch twice, the control group, that with one sample twice, and two halves at each of seven levels");
    }

    [Test]
    public void Quarantined_samples_are_never_drawn_by_a_strangers_sampler_and_batches_stay_full()
    {
        using var model = TestModels.Mlp();
        using var run = new Run(model, NonFiniteHandling.Skip, new Stranger());
        run.Take(0, (inputs, targets) => Spoil("NaN", inputs, targets, 0)).Should().BeFalse();
        run.Trainer.QuarantinedSamples.Select(s => s.Index).Should().Equal(0);
        for (var trigger = 1; trigger < 20; trigger++)
        {
            run.Observe(trigger);
            using var result = run.Trainer.Step();
            result.IsSkipped.Should().BeFalse();
            (result.NewSamples + result.HistoricalSamples).Should().Be(trigger == 1 ? 15 : 16);
        }

        run.History.Drawn.Should().NotBeEmpty().And.NotContain(0);
    }

    [Test]
    public void Evicted_samples_leave_the_quarantine()
    {
        using var model = TestModels.Mlp();
        using var run = new Run(model, NonFiniteHandling.Skip, capacity: 32);
        run.Take(0);
        run.Take(1, (inputs, targets) => Spoil("NaN", inputs, targets, 0));
        run.Trainer.QuarantinedSamples.Select(s => s.Index).Should().Equal(8);
        for (var trigger = 2; trigger < 5; trigger++) run.Take(trigger);
        run.Trainer.QuarantinedSamples.Should().HaveCount(1);
        run.Observe(6);
        run.Trainer.QuarantinedSamples.Should().BeEmpty();
    }

    [Test]
    public void Quarantine_survives_a_checkpoint_and_the_steps_are_those_that_would_have_followed()
    {
        var path = Path.GetTempFileName();
        random.manual_seed(3);
        using var model = TestModels.WithBatchNorm();
        using var run = new Run(model, NonFiniteHandling.Skip);
        Feed(run, 0, 10);
        run.Trainer.SaveCheckpoint(path);
        var quarantined = run.Trainer.QuarantinedSamples.ToArray();
        quarantined.Should().HaveCount(2);
        Feed(run, 10, 30);

        using var other = TestModels.WithBatchNorm();
        using var restored = new Run(other, NonFiniteHandling.Skip, restoreFrom: path, restoreWith: run.History.First(80));
        restored.Trainer.QuarantinedSamples.Should().Equal(quarantined);
        Feed(restored, 10, 30);
        TestModels.State(other).Should().Equal(TestModels.State(model));
        restored.Trainer.QuarantinedSamples.Should().Equal(run.Trainer.QuarantinedSamples);
        File.Delete(path);

        static void Feed(Run run, int first, int end)
        {
            for (var trigger = first; trigger < end; trigger++)
            {
                run.Take(trigger, (inputs, targets) =>
                {
                    if (trigger % 5 == 3) Spoil("NaN", inputs, targets, 2);
                });
            }
        }
    }

    private static void Spoil(string fault, Tensor inputs, Tensor targets, int row)
    {
        switch (fault)
        {
            case "NaN": inputs[row, 0] = float.NaN; break;
            case "infinity": inputs[row, 0] = float.PositiveInfinity; break;
            case "label": targets[row] = TestModels.Classes; break;
            case "negative label": targets[row] = -1; break;
            default: throw new ArgumentOutOfRangeException(nameof(fault), fault, "There is no such fault.");
        }
    }

    /// <summary>A trainer with triggers of 8, whose arrivals are not evaluated, and what it drew.</summary>
    private sealed class Run : IDisposable
    {
        private readonly CrossEntropyLoss loss = nn.CrossEntropyLoss(ignore_index: Ignored);
        private readonly FusedSgd optimizer;
        private readonly ScalarType dtype;

        public Run(
            nn.Module model, NonFiniteHandling handling, ISampler? sampler = null, int batchSize = 16, long? capacity = null,
            Func<Tensor, Tensor, Tensor>? batchLoss = null, ScalarType dtype = ScalarType.Float32, string? restoreFrom = null, RecordingHistory? restoreWith = null,
            ILogger<ProactiveTrainer>? logger = null)
        {
            this.dtype = dtype;
            optimizer = new FusedSgd(model.parameters(), 0.05);
            History = restoreWith ?? new RecordingHistory(capacity);
            var options = new ProactiveTrainerOptions { BatchSize = batchSize, TriggerSize = 8, NonFinite = handling, EvaluateArrivals = false };
            var components = new ProactiveTrainerComponents { History = History, Sampler = sampler, Strategy = new UpdateCompression(new TopKCompressor(0.1)), Logger = logger };
            batchLoss ??= (inputs, targets) => loss.call(((nn.Module<Tensor, Tensor>)model).call(inputs), targets);
            Trainer = restoreFrom is null
                ? new ProactiveTrainer(model, batchLoss, optimizer, options, components)
                : ProactiveTrainer.Restore(restoreFrom, model, batchLoss, optimizer, options, components);
        }

        public ProactiveTrainer Trainer { get; }

        public RecordingHistory History { get; }

        public Exception? Thrown { get; private set; }

        public List<QuarantinedSample> Reported { get; } = [];

        public void Observe(int seed, Action<Tensor, Tensor>? spoil = null)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, seed, dtype);
            spoil?.Invoke(inputs, targets);
            Trainer.Observe(inputs, targets);
        }

        /// <summary>Observes eight samples and takes a step.</summary>
        /// <returns>Whether it trained the model.</returns>
        public bool Take(int seed, Action<Tensor, Tensor>? spoil = null)
        {
            Observe(seed, spoil);
            try
            {
                using var result = Trainer.Step();
                Note(result.Quarantined);
                return !result.IsSkipped;
            }
            catch (Exception e) when (e is NonFiniteException or BatchFailedException)
            {
                Thrown = e;
                Note(e is NonFiniteException nonFinite ? nonFinite.Quarantined : ((BatchFailedException)e).Quarantined);
                return false;
            }
        }

        private void Note(IReadOnlyList<QuarantinedSample> quarantined)
        {
            Reported.AddRange(quarantined);
            if (quarantined.Count > 0) History.ForgetDrawn();
        }

        public void Dispose()
        {
            Trainer.Dispose();
            optimizer.Dispose();
            loss.Dispose();
        }
    }

    /// <summary>A history that notes what was asked for, and of which samples can be damaged.</summary>
    private sealed class RecordingHistory(long? capacity) : ISampleHistory
    {
        private readonly InMemorySampleHistory samples = new(new InMemorySampleHistoryOptions { Capacity = capacity });
        private readonly List<long[]> drawn = [];

        public HashSet<long> Damaged { get; } = [];

        public long FirstIndex => samples.FirstIndex;

        public long EndIndex => samples.EndIndex;

        public long Append(Tensor inputs, Tensor targets) => samples.Append(inputs, targets);

        public SampleBatch Gather(ReadOnlySpan<long> indices)
        {
            foreach (var index in indices)
            {
                if (Damaged.Contains(index)) throw new SampleHistoryException($"Sample {index} is damaged.", sampleIndex: index);
            }

            drawn.Add(indices.ToArray());
            return samples.Gather(indices);
        }

        /// <summary>The samples that were asked for since <see cref="ForgetDrawn"/>.</summary>
        public IEnumerable<long> Drawn => drawn.SelectMany(batch => batch);

        public void ForgetDrawn() => drawn.Clear();

        /// <summary>A history of the first samples of this one.</summary>
        public RecordingHistory First(long count)
        {
            var copy = new RecordingHistory(null);
            using var batch = samples.Gather([.. Enumerable.Range(0, (int)count).Select(i => (long)i)]);
            copy.Append(batch.Inputs, batch.Targets);
            return copy;
        }

        public void Dispose() => samples.Dispose();
    }

    /// <summary>A sampler that always draws the oldest samples, and knows nothing of a quarantine.</summary>
    private sealed class Stranger : ISampler
    {
        private readonly UniformSampler rest = new(new SamplerOptions { AlwaysIncludeNew = false });

        public BatchSelection Sample(SampleRange range, Span<long> batch)
        {
            var sampled = rest.Sample(range, batch);
            if (batch.Length == 16) batch[0] = range.First;
            return sampled;
        }

        public string StateKind => nameof(Stranger);

        public void WriteState(BinaryWriter writer) => rest.SaveState(writer);

        public Action ReadState(BinaryReader reader, int version) => rest.ReadState(reader);
    }

    private sealed class Messages : ILogger<ProactiveTrainer>
    {
        public List<string> All { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            All.Add($"{logLevel}: {formatter(state, exception)}");
    }

    private sealed class Scale : nn.Module
    {
        public Scale(Parameter weight)
            : base("scale") => register_parameter("weight", weight);
    }
}
