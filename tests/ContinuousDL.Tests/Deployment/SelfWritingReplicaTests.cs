using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Updates;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Deployment;

/// <summary>Replicas of models that write to their own tensors when they predict: each answer is the trainer's, and the state stays the trainer's.</summary>
public class SelfWritingReplicaTests
{
    [Test]
    public void Every_prediction_is_the_trainers_while_others_are_made_and_updates_are_applied()
    {
        const int updates = 50;
        using var model = new Model(maxNorm: 0.5);
        using var trainer = Make(model);
        using var replica = new ModelReplica<Model>(() => new Model(maxNorm: 0.5), trainer.CreateSnapshot());
        using var input = TestModels.Arrivals(3, 5).Inputs;
        var expected = new Dictionary<long, byte[]>();
        var results = new List<StepResult>();
        Expect(0);
        for (var s = 1; s <= updates; s++)
        {
            results.Add(Step(trainer, s));
            Expect(s);
        }

        using var done = new CancellationTokenSource();
        using var started = new CountdownEvent(3);
        var readers = Enumerable.Range(0, 3).Select(_ => Task.Run(() =>
        {
            var predictions = 0;
            while (!done.IsCancellationRequested)
            {
                using var guard = no_grad();
                using var lease = replica.Acquire();
                using var output = lease.Model.call(input);
                if (!TestModels.Bytes(output).AsSpan().SequenceEqual(expected[lease.Sequence])) throw new InvalidOperationException($"A wrong answer at {lease.Sequence}.");
                if (++predictions == 1) started.Signal();
            }
        })).ToArray();
        started.Wait();
        foreach (var result in results)
        {
            replica.Apply(result.Update!).Should().BeTrue();
            result.Dispose();
        }

        done.Cancel();
        Task.WaitAll(readers);
        replica.Sequence.Should().Be(updates);
        replica.Verify().Should().BeTrue();

        void Expect(long sequence)
        {
            using var output = trainer.Predict(input);
            expected[sequence] = TestModels.Bytes(output);
        }
    }

    [Test]
    public void A_write_that_no_prediction_had_shown_before_is_taken_back()
    {
        using var model = new Model();
        using var trainer = Make(model);
        var copies = new List<Model>();
        using var replica = new ModelReplica<Model>(() => Note(copies), trainer.CreateSnapshot());
        using var input = TestModels.Arrivals(3, 5).Inputs;
        for (var step = 0; step < 10; step++)
        {
            foreach (var copy in copies) copy.WritesInEval = step >= 3;
            replica.Predict(input).Dispose();
            replica.Verify().Should().BeTrue();
            using var expected = trainer.Predict(input);
            using var result = Step(trainer, step);
            replica.Apply(result.Update!).Should().BeTrue();
            replica.Verify().Should().BeTrue();
        }

        foreach (var copy in copies) copy.WritesInEval = false;
        using var right = trainer.Predict(input);
        using var answer = replica.Predict(input);
        TestModels.Bytes(answer).Should().Equal(TestModels.Bytes(right));
    }

    [Test]
    public void Where_nothing_is_left_to_take_a_write_back_from_the_replica_says_so_by_name_until_it_gets_a_snapshot()
    {
        using var model = new Model();
        using var trainer = Make(model);
        var copies = new List<Model>();
        using var replica = new ModelReplica<Model>(() => Note(copies), trainer.CreateSnapshot());
        using var input = TestModels.Arrivals(3, 5).Inputs;
        replica.Restore(trainer.CreateSnapshot());
        replica.Predict(input).Dispose();
        foreach (var copy in copies) copy.WritesInEval = true;
        replica.Predict(input).Dispose();
        foreach (var attempt in new Action[] { () => replica.Predict(input), () => replica.Verify(), () => Apply() })
        {
            attempt.Should().Throw<ReplicaDivergedException>().WithMessage("*'output.weight'*");
        }

        replica.Restore(trainer.CreateSnapshot());
        replica.Predict(input).Dispose();
        replica.Verify().Should().BeTrue();

        void Apply()
        {
            using var result = Step(trainer, 1);
            replica.Apply(result.Update!);
        }
    }

    [Test]
    public void A_thread_may_hold_several_leases_of_a_model_that_writes_to_itself()
    {
        using var model = new Model(maxNorm: 0.5);
        using var trainer = Make(model);
        using var replica = new ModelReplica<Model>(() => new Model(maxNorm: 0.5), trainer.CreateSnapshot());
        using var input = TestModels.Arrivals(3, 5).Inputs;
        using (replica.Acquire())
        {
            replica.Predict(input).Dispose();
        }

        replica.Verify().Should().BeTrue();
        Task.Run(() => replica.Predict(input).Dispose()).Wait();
        replica.Verify().Should().BeTrue();
    }

    private static Model Note(List<Model> copies)
    {
        copies.Add(new Model());
        return copies[^1];
    }

    private static ProactiveTrainer Make(Model model) => new(
        model,
        nn.CrossEntropyLoss(),
        new FusedAdam(model.parameters(), 0.05),
        new ProactiveTrainerOptions { BatchSize = 8, TriggerSize = 1 },
        new ProactiveTrainerComponents { Strategy = new UpdateCompression(new TopKCompressor(0.1), lookahead: 0.5) });

    private static StepResult Step(ProactiveTrainer trainer, int seed)
    {
        var (inputs, targets) = TestModels.Arrivals(8, seed);
        using (inputs)
        using (targets) return trainer.Step(inputs, targets);
    }

    private sealed class Model : nn.Module<Tensor, Tensor>
    {
        private readonly Embedding table;
        private readonly Linear output = nn.Linear(8, TestModels.Classes);

        public Model(double? maxNorm = null)
            : base(nameof(Model))
        {
            table = nn.Embedding(20, 8, max_norm: maxNorm);
            RegisterComponents();
        }

        public bool WritesInEval { get; set; }

        public override Tensor forward(Tensor input)
        {
            using var scope = NewDisposeScope();
            if (WritesInEval && !training)
            {
                using var guard = no_grad();
                using Scalar factor = 0.5;
                _ = output.weight.mul_(factor);
            }

            using Scalar scale = 3.0;
            var rows = input.narrow(1, 0, 2).abs().mul(scale).to(ScalarType.Int64).clamp(0, 19);
            return output.call(table.call(rows).mean([1L])).MoveToOuterDisposeScope();
        }
    }
}
