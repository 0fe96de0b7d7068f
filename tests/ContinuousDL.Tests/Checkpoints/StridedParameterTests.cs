using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.State;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Checkpoints;

/// <summary>Parameters of any strides are saved with all that an optimizer keeps for them, and go on bit for bit.</summary>
public class StridedParameterTests
{
    private static readonly Dictionary<string, Func<IEnumerable<Parameter>, optim.Optimizer>> Optimizers = new()
    {
        ["Adadelta"] = p => optim.Adadelta(p, 0.5),
        ["Adagrad"] = p => optim.Adagrad(p, 0.05),
        ["Adam"] = p => optim.Adam(p, 0.01),
        ["Adam with AMSGrad"] = p => optim.Adam(p, 0.01, amsgrad: true),
        ["Adamax"] = p => optim.Adamax(p, 0.01),
        ["AdamW"] = p => optim.AdamW(p, 0.01, amsgrad: true),
        ["ASGD"] = p => optim.ASGD(p, 0.05),
        ["NAdam"] = p => optim.NAdam(p, 0.01),
        ["RAdam"] = p => optim.RAdam(p, 0.01),
        ["RMSProp"] = p => optim.RMSProp(p, 0.01, momentum: 0.9, centered: true),
        ["Rprop"] = p => optim.Rprop(p, 0.01),
        ["SGD"] = p => optim.SGD(p, 0.05),
        ["SGD with momentum"] = p => optim.SGD(p, 0.05, momentum: 0.9, nesterov: true),
        ["fused Adam"] = p => new FusedAdam(p, 0.01, amsGrad: true),
        ["fused SGD"] = p => new FusedSgd(p, 0.05, momentum: 0.9),
    };

    [Test]
    public void A_trainer_of_strided_parameters_is_restored_and_goes_on_bit_for_bit(
        [ValueSource(nameof(Names))] string optimizer, [Values("update", "gradient", "dense")] string strategy)
    {
        var path = Path.Combine(TestContext.CurrentContext.WorkDirectory, $"{Guid.NewGuid():n}.checkpoint");
        try
        {
            using var run = new Run(optimizer, strategy);
            run.Step(0, 5);
            run.Trainer.SaveCheckpoint(path);
            using var restored = new Run(optimizer, strategy, path, 5);
            run.Step(5, 6);
            restored.Step(5, 6);
            TestModels.State(restored.Model).Should().Equal(TestModels.State(run.Model));
            restored.Trainer.Deployed.Digest.Should().Be(run.Trainer.Deployed.Digest);

            // And so does a second generation.
            restored.Trainer.SaveCheckpoint(path);
            using var again = new Run(optimizer, strategy, path, 11);
            run.Step(11, 4);
            again.Step(11, 4);
            TestModels.State(again.Model).Should().Equal(TestModels.State(run.Model));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Test]
    public void Saving_changes_nothing([ValueSource(nameof(Names))] string optimizer)
    {
        using var saved = new Run(optimizer, "dense");
        using var other = new Run(optimizer, "dense");
        using var stream = new MemoryStream();
        for (var step = 0; step < 6; step++)
        {
            saved.Step(step, 1);
            other.Step(step, 1);
            using var copy = saved.Trainer.CopyState();
            copy.Length.Should().BePositive();
        }

        TestModels.State(saved.Model).Should().Equal(TestModels.State(other.Model));
    }

    [Test]
    public void A_rule_goes_back_to_an_older_state_and_is_as_it_was_after_a_damaged_one()
    {
        using var values = randn(7, 5);
        using var transposed = values.t();
        using var parameter = nn.Parameter(transposed);
        using var optimizer = optim.Adam([parameter], 0.01);
        using var rule = new TorchOptimizerRule(optimizer);
        Step(optimizer, parameter, 1);
        var state = Saved(rule);
        Step(optimizer, parameter, 2);
        var later = Saved(rule);
        rule.Invoking(r => r.LoadState(new BinaryReader(new MemoryStream(state[..^9])))).Should().Throw<InvalidDataException>();
        Saved(rule).Should().Equal(later);
        rule.LoadState(new BinaryReader(new MemoryStream(state)));
        Saved(rule).Should().Equal(state);
    }

    private static IEnumerable<string> Names() => Optimizers.Keys;

    private static void Step(optim.Optimizer optimizer, Parameter parameter, float factor)
    {
        using Scalar scalar = factor;
        using var scaled = parameter.mul(scalar);
        using var squared = scaled.mul(scaled);
        using var loss = squared.sum();
        parameter.grad = null;
        loss.backward();
        optimizer.step()?.Dispose();
    }

    private static byte[] Saved(IUpdateRule rule)
    {
        using var stream = new MemoryStream();
        using (var writer = new BinaryWriter(stream, System.Text.Encoding.UTF8, leaveOpen: true)) rule.SaveState(writer);
        return stream.ToArray();
    }

    /// <summary>A convolution in channels-last order and a transposed matrix.</summary>
    private sealed class Net : nn.Module<Tensor, Tensor>
    {
        private readonly Parameter kernel;
        private readonly Parameter output;
        private readonly Parameter gapped;

        public Net()
            : base("net")
        {
            using var scope = NewDisposeScope();
            using var generator = new Generator(8, CPU);
            using Scalar small = 0.3f;
            kernel = nn.Parameter(randn([8, 3, 3, 3], generator: generator).mul(small).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)).DetachFromDisposeScope() as Parameter ?? throw new InvalidOperationException();
            output = nn.Parameter(randn([8, 4], generator: generator).mul(small).t()).DetachFromDisposeScope() as Parameter ?? throw new InvalidOperationException();
            gapped = nn.Parameter(randn([4, 6], generator: generator).mul(small).narrow(1, 0, 3).select(1, 1)).DetachFromDisposeScope() as Parameter ?? throw new InvalidOperationException();
            register_parameter("kernel", kernel);
            register_parameter("output", output);
            register_parameter("gapped", gapped);
        }

        public override Tensor forward(Tensor input)
        {
            using var scope = NewDisposeScope();
            var features = nn.functional.conv2d(input, kernel).relu().mean([2L, 3L]);
            return nn.functional.linear(features, output, gapped).MoveToOuterDisposeScope();
        }
    }

    private sealed class Run : IDisposable
    {
        private readonly CrossEntropyLoss loss = nn.CrossEntropyLoss();
        private readonly optim.Optimizer optimizer;

        public Run(string optimizerName, string strategy, string? path = null, int steps = 0)
        {
            optimizer = Optimizers[optimizerName](Model.parameters());
            var history = new InMemorySampleHistory();
            for (var step = 0; step < steps; step++)
            {
                using var scope = NewDisposeScope();
                var (inputs, targets) = Arrivals(step);
                history.Append(inputs, targets);
            }

            var options = new ProactiveTrainerOptions { BatchSize = 8, TriggerSize = 4 };
            var components = new ProactiveTrainerComponents
            {
                History = history,
                Strategy = strategy switch
                {
                    "update" => new UpdateCompression(new TopKCompressor(0.1), lookahead: 0.5),
                    "gradient" => new GradientCompression(new TopKCompressor(0.1)),
                    _ => new DenseDeployment(),
                },
            };
            Trainer = path is null ? new ProactiveTrainer(Model, loss, optimizer, options, components) : ProactiveTrainer.Restore(path, Model, loss, optimizer, options, components);
        }

        public Net Model { get; } = new();

        public ProactiveTrainer Trainer { get; }

        public void Step(int from, int count)
        {
            for (var step = from; step < from + count; step++)
            {
                using var scope = NewDisposeScope();
                var (inputs, targets) = Arrivals(step);
                Trainer.Step(inputs, targets).Dispose();
            }
        }

        public void Dispose()
        {
            Trainer.Dispose();
            optimizer.Dispose();
            loss.Dispose();
            Model.Dispose();
        }

        private static (Tensor Inputs, Tensor Targets) Arrivals(int seed)
        {
            var generator = new Generator((ulong)seed + 100, CPU);
            var inputs = randn([4, 3, 6, 6], generator: generator);
            var targets = randint(4, [4], dtype: ScalarType.Int64, generator: generator);
            generator.Dispose();
            return (inputs, targets);
        }
    }
}
