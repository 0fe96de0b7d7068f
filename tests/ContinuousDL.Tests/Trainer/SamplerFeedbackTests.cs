using ContinuousDL.Optimization;
using ContinuousDL.Sampling;
using ContinuousDL.State;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>A sampler hears what was trained on and what arrived, with the losses, so that it can go by them.</summary>
public class SamplerFeedbackTests
{
    private static readonly ProactiveTrainerOptions Small = new() { BatchSize = 8, TriggerSize = 4, Density = 0.1 };

    [Test]
    public void A_sampler_hears_of_arrivals_with_their_loss()
    {
        var sampler = new Listener();
        using var model = TestModels.Mlp();
        using var trainer = Make(model, sampler, Small);
        AddHistory(trainer, 10);
        var first = Observe(trainer, 3);
        var second = Observe(trainer, 2);
        sampler.Arrived.Should().Equal((10, 3, first.Loss), (13, 2, second.Loss));
        first.Loss.Should().NotBeNull();
    }

    [Test]
    public void A_sampler_hears_of_arrivals_that_are_not_evaluated_without_a_loss()
    {
        var sampler = new Listener();
        using var model = TestModels.Mlp();
        using var trainer = Make(model, sampler, new() { BatchSize = 8, Density = 0.1, EvaluateArrivals = false });
        Observe(trainer, 3);
        sampler.Arrived.Should().Equal((0, 3, null));
    }

    [Test]
    public void A_sampler_hears_of_each_step_the_samples_it_drew_and_the_loss()
    {
        var sampler = new Listener();
        using var model = TestModels.Mlp();
        using var trainer = Make(model, sampler, Small);
        Observe(trainer, 12);
        for (var i = 0; i < 3; i++)
        {
            using var result = trainer.Step();
            sampler.Trained.Should().HaveCount(i + 1);
            sampler.Trained[i].Batch.Should().Equal(sampler.Drawn[i]);
            sampler.Trained[i].Loss.Should().Be(result.Loss);
        }
    }

    [Test]
    public void A_sampler_does_not_hear_of_a_step_that_was_skipped()
    {
        var sampler = new Listener();
        using var model = TestModels.Mlp();
        using var trainer = Make(model, sampler, new() { BatchSize = 8, Density = 0.1, EvaluateArrivals = false, NonFinite = NonFiniteHandling.Skip });
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(4, 5);
        trainer.Observe(inputs.fill_(float.NaN), targets);
        using var result = trainer.Step();
        result.Update.Should().BeNull();
        sampler.Trained.Should().BeEmpty();
    }

    [Test]
    public void What_a_sampler_throws_loses_neither_samples_nor_update()
    {
        var sampler = new Listener { Fails = true };
        using var model = TestModels.Mlp();
        using var trainer = Make(model, sampler, Small);
        Observe(trainer, 12).PendingSamples.Should().Be(12);
        using var result = trainer.Step();
        result.Update!.Sequence.Should().Be(1);
        trainer.PendingSamples.Should().Be(4);
    }

    private static ProactiveTrainer Make(nn.Module<Tensor, Tensor> model, ISampler sampler, ProactiveTrainerOptions options) =>
        new(model, nn.CrossEntropyLoss(), new FusedSgd(model.parameters(), 0.1), options, new() { Sampler = sampler });

    private static ObserveResult Observe(ProactiveTrainer trainer, int count)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(count, 5);
        return trainer.Observe(inputs, targets);
    }

    private static void AddHistory(ProactiveTrainer trainer, int count)
    {
        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(count, 77);
        trainer.AddHistory(inputs, targets);
    }

    private sealed class Listener : ISampler
    {
        private readonly UniformSampler inner = new();

        public List<(long First, int Count, double? Loss)> Arrived { get; } = [];

        public List<(long[] Batch, double Loss)> Trained { get; } = [];

        public List<long[]> Drawn { get; } = [];

        public bool Fails { get; init; }

        public BatchSelection Sample(SampleRange range, Span<long> batch)
        {
            var selection = inner.Sample(range, batch);
            Drawn.Add(batch[..selection.Count].ToArray());
            return selection;
        }

        public void OnTrained(ReadOnlySpan<long> batch, double loss)
        {
            if (Fails) throw new InvalidOperationException("The sampler has a bug.");
            Trained.Add((batch.ToArray(), loss));
        }

        public void OnArrived(long first, int count, double? loss)
        {
            if (Fails) throw new InvalidOperationException("The sampler has a bug.");
            Arrived.Add((first, count, loss));
        }

        public string StateKind => nameof(Listener);

        public void WriteState(BinaryWriter writer) => inner.SaveState(writer);

        public Action ReadState(BinaryReader reader, int version) => SavedState.ReadState(inner, reader);
    }
}
