using ContinuousDL.Compression;
using ContinuousDL.Cuda.Driver;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Tests.TestDouble;
using ContinuousDL.DependencyInjection;
using ContinuousDL.Deployment;
using ContinuousDL.Diagnostics;
using ContinuousDL.Optimization;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using TorchSharp;
using TorchSharp.Modules;
using static ContinuousDL.Cuda.Tests.CudaTrainers;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Whole training steps with the kernels: on ILGPU's CPU accelerator, and through the driver's test double.</summary>
public class CudaStrategyTests
{
    private AcceleratorQueue queue = null!;

    [OneTimeSetUp]
    public void Start() => queue = new AcceleratorQueue(8, 2);

    [OneTimeTearDown]
    public void Stop() => queue.Dispose();

    [Test]
    public void Steps_with_the_kernels_are_bit_identical_to_those_of_the_CPU_path([ValueSource(typeof(CudaTrainers), nameof(Cases))] StrategyCase setup)
    {
        var strategy = With(queue, setup);
        CompareSteps(setup, strategy, 8);
        strategy.UsesKernels.Should().BeTrue();
    }

    [Test]
    public void Steps_through_the_driver_are_bit_identical_to_those_of_the_CPU_path(
        [Values("top-k with look-ahead", "top-k in bfloat16", "random-k with look-ahead")] string name)
    {
        DriverDouble.Reset();
        using var device = new CudaDevice(CudaDriver.Load(DriverDouble.Path), 0);
        var setup = Cases.Single(c => c.Name == name);
        CompareSteps(setup, With(device, setup), 6);
        DriverDouble.Failure.Should().BeNull();
        DriverDouble.Launches.Should().NotBeEmpty();
    }

    [Test]
    public void A_step_of_a_float32_or_16_bit_tensor_is_one_pass_of_the_library()
    {
        using var own = new AcceleratorQueue(8, 2);
        using var model = TestModels.Mlp();
        using var trainer = Make(model, With(own, new StrategyCase("", () => new TopKCompressor(0.1), 0.5)));
        Step(trainer, 0);
        own.Launched.Count(l => l.Kernel == "TakeBackFloat32").Should().Be(4, "there are four parameters");
        own.Launched.Should().NotContain(l => l.Kernel.StartsWith("Accumulate", StringComparison.Ordinal));
        own.Launched.Count(l => l.Kernel == nameof(ModelKernels.LookAhead)).Should().Be(1, "that is of all parameters");
    }

    [Test]
    public void A_restored_trainer_goes_on_bit_identically(
        [Values("top-k", "top-k with look-ahead", "top-k, sometimes of none", "top-k in bfloat16", "random-k with look-ahead")] string name)
    {
        var setup = Cases.Single(c => c.Name == name);
        CompareRestored(setup, () => With(queue, setup));
        CompareRestored(setup, () => new CudaUpdateCompression(setup.Compressor(), setup.Lookahead));
    }

    [Test]
    public void Parameters_of_several_dtypes_and_layouts_that_have_no_gradient_now_and_then_are_stepped_as_on_the_CPU([Values] bool kernels, [Values] bool transposed)
    {
        using var own = new AcceleratorQueue(8, 2);
        ProactiveTrainer Trainer(TwoHeads model, IDeploymentStrategy strategy) => new(
            model,
            nn.CrossEntropyLoss(),
            optim.SGD(model.parameters(), 0.1, momentum: 0.9),
            new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4, DeployedValuePrecision = DeployedValuePrecision.BFloat16 },
            new ProactiveTrainerComponents { Strategy = strategy });

        foreach (var lookahead in new[] { 0, 0.5 })
        {
            using var a = new TwoHeads(transposed);
            using var b = new TwoHeads(transposed);
            ModelSnapshot.Of(a).CopyTo(b);
            var setup = new StrategyCase("", () => new TopKCompressor(0.2), lookahead);
            using var actual = Trainer(a, kernels ? With(own, setup) : new CudaUpdateCompression(0.2, lookahead));
            using var expected = Trainer(b, new UpdateCompression(setup.Compressor(), lookahead: lookahead));
            for (var step = 0; step < 8; step++)
            {
                a.First = b.First = step % 3 != 1;
                Step(actual, step);
                Step(expected, step);
                actual.Deployed.Digest.Should().Be(expected.Deployed.Digest);
                TestModels.State(a).Should().Equal(TestModels.State(b));
            }
        }

        own.Launched.Any(l => l.Kernel == nameof(ModelKernels.LookAhead)).Should().Be(kernels && !transposed);
    }

    [TestCase(0)]
    [TestCase(0.5)]
    public void An_optimizer_that_fails_half_way_leaves_the_deployed_model_as_the_replicas_have_it(double lookahead)
    {
        using var model = TestModels.Mlp();
        using var optimizer = optim.SGD(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(
            model,
            nn.CrossEntropyLoss(),
            optimizer,
            new ProactiveTrainerOptions { BatchSize = 16, TriggerSize = 4 },
            new ProactiveTrainerComponents { Strategy = new CudaUpdateCompression(0.1, lookahead), UpdateRule = new FailingRule([.. model.parameters()]) });
        var before = TestModels.State(model);
        FluentActions.Invoking(() => Step(trainer, 0)).Should().Throw<InvalidOperationException>().WithMessage("half way");
        TestModels.State(model).Should().Equal(before);
    }

    [Test]
    public void Where_the_kernels_cannot_be_used_the_log_says_so_once()
    {
        var logger = new RecordingLogger();
        using var model = TestModels.Mlp();
        var strategy = new CudaUpdateCompression(new TopKCompressor(0.1), 0, logger, new CudaDevices("libno-such-driver.so.1").FindForTest);
        using var trainer = Make(model, strategy);
        for (var step = 0; step < 3; step++) Step(trainer, step);
        strategy.UsesKernels.Should().BeFalse();
        logger.Messages.Should().ContainSingle().Which.Should().Contain("libno-such-driver.so.1").And.Contain("cpu");
    }

    [Test]
    public void On_the_CPU_nothing_is_said()
    {
        var logger = new RecordingLogger();
        using var model = TestModels.Mlp();
        var strategy = new CudaUpdateCompression(0.1, logger: logger);
        using var trainer = Make(model, strategy);
        Step(trainer, 0);
        strategy.UsesKernels.Should().BeFalse();
        logger.Messages.Should().BeEmpty();
    }

    [Test]
    public void Registered_a_model_on_CUDA_gets_the_strategy_and_another_the_trainers_default()
    {
        using var model = TestModels.Mlp();
        Parameter[] parameters = [.. model.parameters()];
        var options = new ProactiveTrainerOptions { Density = 0.25 };
        using var onCuda = new CudaDefaultStrategy(null, _ => true).Create(parameters, options);
        onCuda.Should().BeOfType<CudaUpdateCompression>();
        using var trainer = Make(model, onCuda!);
        onCuda!.StateKind.Should().EndWith("look-ahead 1", "that is the CPU's default, {0}", UpdateCompression.LookaheadFor(0.25));
        new CudaDefaultStrategy(null, device => device.type == DeviceType.CUDA).Create(parameters, options).Should().BeNull();
        new CudaDefaultStrategy(null, _ => true).Create([], options).Should().BeNull();
    }

    [Test]
    public void Registered_twice_it_is_asked_once_and_a_strategy_of_the_users_goes_first()
    {
        var asked = 0;
        var services = new ServiceCollection();
        services.AddContinuousDL(_ => TestModels.Mlp(), o => o.BatchSize = 4)
            .UseOptimizer((_, model) => optim.SGD(model.parameters(), 0.1))
            .AddContinuousDLCuda()
            .AddContinuousDLCuda()
            .UseStrategy(_ =>
            {
                asked++;
                return new DenseDeployment();
            });
        services.Count(s => s.ServiceType == typeof(IDefaultStrategy)).Should().Be(1);
        using var provider = services.BuildServiceProvider();
        Step(provider.GetRequiredService<ProactiveTrainer>(), 0);
        asked.Should().Be(1);
    }

    [Test]
    public void A_container_with_it_trains_a_model_on_the_CPU_as_without_it()
    {
        ulong Digest(bool registered)
        {
            manual_seed(3);
            var services = new ServiceCollection();
            var builder = services.AddContinuousDL(_ => TestModels.Mlp(), o => o.BatchSize = 4)
                .UseOptimizer((_, model) => optim.SGD(model.parameters(), 0.1));
            if (registered) builder.AddContinuousDLCuda();
            using var provider = services.BuildServiceProvider();
            var trainer = provider.GetRequiredService<ProactiveTrainer>();
            for (var step = 0; step < 3; step++) Step(trainer, step);
            return trainer.Deployed.Digest;
        }

        Digest(registered: true).Should().Be(Digest(registered: false));
    }

    private static CudaUpdateCompression With(IKernelQueue queue, StrategyCase setup) => new(setup.Compressor(), setup.Lookahead, null, From(queue));

    private static CudaUpdateCompression.QueueSource From(IKernelQueue queue) => (Device _, out string? problem) =>
    {
        problem = null;
        return queue;
    };

    /// <summary>A hidden layer, whose weights may be transposed in memory, and two heads, of bfloat16 and of float64, of which one is used.</summary>
    private sealed class TwoHeads : nn.Module<Tensor, Tensor>
    {
        private readonly Linear hidden = nn.Linear(TestModels.Features, 16);
        private readonly Linear first = nn.Linear(16, TestModels.Classes, dtype: ScalarType.BFloat16);
        private readonly Linear second = nn.Linear(16, TestModels.Classes, dtype: ScalarType.Float64);

        public TwoHeads(bool transposed)
            : base(nameof(TwoHeads))
        {
            if (transposed) hidden.weight = new Parameter(rand(TestModels.Features, 16).t());
            RegisterComponents();
        }

        public bool First { get; set; }

        public override Tensor forward(Tensor input)
        {
            var features = hidden.call(input).relu();
            return First ? first.call(features.to(ScalarType.BFloat16)).to(ScalarType.Float32) : second.call(features.to(ScalarType.Float64)).to(ScalarType.Float32);
        }
    }

    /// <summary>Moves a parameter, and throws.</summary>
    private sealed class FailingRule(IReadOnlyList<Parameter> parameters) : IUpdateRule
    {
        public IReadOnlyList<Parameter> Parameters { get; } = parameters;

        public bool ReadsParameterGradients => true;

        public void BeginStep(ReadOnlySpan<bool> hasGradient)
        {
        }

        public void ApplyUpdate()
        {
            using Scalar one = 1;
            _ = Parameters[0].add_(one, one);
            throw new InvalidOperationException("half way");
        }

        public void ComputeUpdate(int parameter, int start, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update) => throw new NotSupportedException();

        public void ComputeUpdateAt(int parameter, ReadOnlySpan<int> elements, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update) => throw new NotSupportedException();

        public void Reset()
        {
        }

        public string StateKind => nameof(FailingRule);

        public void WriteState(BinaryWriter writer)
        {
        }

        public Action ReadState(BinaryReader reader, int version) => () => { };

        public void Dispose()
        {
        }
    }

    private sealed class RecordingLogger : ILogger<CudaUpdateCompression>
    {
        public List<string> Messages { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Messages.Add(formatter(state, exception));
    }
}

/// <summary>Asks for the first device, whichever the parameters are on.</summary>
internal static class CudaDevicesExtensions
{
    public static IKernelQueue? FindForTest(this CudaDevices devices, Device device, out string? problem) => devices.Find(0, out problem);
}
