using ContinuousDL.Compression;
using ContinuousDL.Cuda.Driver;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Tests.TestDouble;
using ContinuousDL.DependencyInjection;
using ContinuousDL.Deployment;
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
    [TestCase(0.02)]
    [TestCase(1e-9)]
    [TestCase(1)]
    public void Steps_with_the_kernels_are_bit_identical_to_those_of_the_CPU_path(double density)
    {
        using var queue = new AcceleratorQueue(8, 2);
        CompareSteps(density, queue, 15);
    }

    [Test]
    public void Steps_through_the_driver_are_bit_identical_to_those_of_the_CPU_path()
    {
        DriverDouble.Reset();
        using var device = new CudaDevice(CudaDriver.Load(DriverDouble.Path), 0);
        CompareSteps(0.05, device, 10);
        DriverDouble.Failure.Should().BeNull();
        DriverDouble.Launches.Should().NotBeEmpty();
    }

    [Test]
    public void State_saved_and_loaded_continues_bit_identically()
    {
        using var queue = new AcceleratorQueue(8, 2);
        using var model = TestModels.Mlp();
        var strategy = new CudaUpdateCompression(new TopKCompressor(0.1), 0, null, From(queue));
        using var trainer = Make(model, strategy);
        Step(trainer, 0);
        var saved = Saved(strategy);
        Step(trainer, 1);
        Saved(strategy).Should().NotEqual(saved);
        strategy.LoadState(new BinaryReader(new MemoryStream(saved)));
        Saved(strategy).Should().Equal(saved);
        Step(trainer, 2);
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

    private static void CompareSteps(double density, IKernelQueue queue, int steps)
    {
        var strategy = new CudaUpdateCompression(new TopKCompressor(density), 0, null, From(queue));
        CudaTrainers.CompareSteps(density, strategy, steps);
        strategy.UsesKernels.Should().BeTrue();
    }

    private static CudaUpdateCompression.QueueSource From(IKernelQueue queue) => (Device _, out string? problem) =>
    {
        problem = null;
        return queue;
    };

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
