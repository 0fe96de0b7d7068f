using System.Diagnostics.Metrics;
using ContinuousDL.Compression;
using ContinuousDL.DependencyInjection;
using ContinuousDL.Deployment;
using ContinuousDL.Diagnostics;
using ContinuousDL.Evaluation;
using ContinuousDL.History;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.DependencyInjection;

public class AddContinuousDLTests
{
    [Test]
    public void A_trainer_and_its_replica_come_out_of_the_container()
    {
        var services = new ServiceCollection();
        Add(services, o => o.BatchSize = 4).AddReplica(_ => TestModels.Mlp()).UseEvaluator(_ => new ClassificationEvaluator());
        using var provider = services.BuildServiceProvider();
        var trainer = provider.GetRequiredService<ProactiveTrainer>();
        var replica = provider.GetRequiredService<ModelReplica<Sequential>>();
        trainer.Should().BeSameAs(provider.GetRequiredService<ProactiveTrainer>());
        trainer.Evaluator.Should().BeOfType<ClassificationEvaluator>();
        for (var step = 0; step < 3; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, step);
            using var result = trainer.Step(inputs, targets);
            (result.NewSamples + result.HistoricalSamples).Should().Be(4);
            replica.Apply(result.Update!);
        }

        replica.Digest.Should().Be(trainer.Deployed.Digest);
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void Options_come_from_configuration()
    {
        var configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["Trainer:BatchSize"] = "5",
            ["Trainer:Density"] = "0.25",
            ["Trainer:Buffers:Mode"] = "Periodic",
            ["Trainer:Buffers:Interval"] = "7",
        }).Build();
        var services = new ServiceCollection();
        services.AddContinuousDL(_ => TestModels.Mlp(), configuration.GetSection("Trainer"));
        using var provider = services.BuildServiceProvider();
        var options = provider.GetRequiredService<IOptions<ProactiveTrainerOptions>>().Value;
        options.Should().BeEquivalentTo(new ProactiveTrainerOptions
        {
            BatchSize = 5,
            Density = 0.25,
            Buffers = new BufferDeploymentOptions { Mode = BufferDeploymentMode.Periodic, Interval = 7 },
        });
    }

    [Test]
    public void A_misspelt_option_is_refused()
    {
        var configuration = new ConfigurationBuilder().AddInMemoryCollection([new("Trainer:BachSize", "5")]).Build();
        var services = new ServiceCollection();
        services.AddContinuousDL(_ => TestModels.Mlp(), configuration.GetSection("Trainer"));
        using var provider = services.BuildServiceProvider();
        provider.Invoking(p => p.GetRequiredService<IOptions<ProactiveTrainerOptions>>().Value)
            .Should().Throw<InvalidOperationException>().WithMessage("*BachSize*");
    }

    [TestCase("BatchSize")]
    [TestCase("Interval")]
    public void Options_out_of_range_are_refused_by_name(string name)
    {
        var services = new ServiceCollection();
        Add(services, o =>
        {
            if (name == "BatchSize") o.BatchSize = 0;
            else o.Buffers.Interval = -1;
        });
        using var provider = services.BuildServiceProvider();
        provider.Invoking(p => p.GetRequiredService<ProactiveTrainer>()).Should().Throw<OptionsValidationException>().WithMessage($"*{name}*");
    }

    [Test]
    public void A_history_that_cannot_hold_a_trigger_is_refused_by_name()
    {
        var services = new ServiceCollection();
        Add(services, o => o.TriggerSize = 8).UseHistory(_ => new InMemorySampleHistory(new() { Capacity = 7 }));
        using var provider = services.BuildServiceProvider();
        provider.Invoking(p => p.GetRequiredService<ProactiveTrainer>()).Should().Throw<ArgumentException>().WithMessage("*TriggerSize is 8*Capacity*7*");
    }

    [Test]
    public void A_missing_optimizer_is_named()
    {
        var services = new ServiceCollection();
        services.AddContinuousDL(_ => TestModels.Mlp());
        using var provider = services.BuildServiceProvider();
        provider.Invoking(p => p.GetRequiredService<ProactiveTrainer>()).Should().Throw<InvalidOperationException>().WithMessage("*UseOptimizer*");
    }

    [Test]
    public void What_was_made_for_a_trainer_that_cannot_be_made_is_disposed_of()
    {
        using var other = TestModels.Mlp();
        var optimizer = new FusedSgd(other.parameters(), 0.1);
        var services = new ServiceCollection();
        services.AddContinuousDL(_ => TestModels.Mlp()).UseOptimizer((_, _) => optimizer);
        using var provider = services.BuildServiceProvider();
        provider.Invoking(p => p.GetRequiredService<ProactiveTrainer>()).Should().Throw<ArgumentException>().WithMessage("*not one of the model's*");
        optimizer.Invoking(o => o.step()).Should().Throw<ObjectDisposedException>();
    }

    [Test]
    public void Parts_are_the_containers_and_disposed_with_it()
    {
        var strategy = new UpdateCompression(TopKCompressor.OfCount(2));
        var model = TestModels.Mlp();
        var parameter = model.parameters().First();
        var services = new ServiceCollection();
        services.AddContinuousDL(_ => model, o => (o.BatchSize, o.TriggerSize) = (4, 1))
            .UseLoss(_ => nn.CrossEntropyLoss(reduction: nn.Reduction.Sum))
            .UseOptimizer((_, m) => optim.SGD(m.parameters(), 0.1))
            .UseStrategy(_ => strategy);
        using (var provider = services.BuildServiceProvider())
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(4, 1);
            using var result = provider.GetRequiredService<ProactiveTrainer>().Step(inputs, targets);
            result.CoordinatesChanged.Should().Be(2);
        }

        parameter.IsInvalid.Should().BeTrue();
    }

    [Test]
    public void Steps_are_logged_and_measured()
    {
        var logged = new List<string>();
        var measured = new List<string>();
        var services = new ServiceCollection();
        services.AddLogging(l => l.SetMinimumLevel(LogLevel.Debug).AddProvider(new Collector(logged)));
        services.AddMetrics();
        Add(services, o => o.BatchSize = 4);
        using var provider = services.BuildServiceProvider();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Meter.Name == "ContinuousDL") l.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((i, _, _, _) => measured.Add(i.Name));
        listener.SetMeasurementEventCallback<double>((i, _, _, _) => measured.Add(i.Name));
        listener.Start();

        using var scope = NewDisposeScope();
        var (inputs, targets) = TestModels.Arrivals(4, 1);
        provider.GetRequiredService<ProactiveTrainer>().Step(inputs, targets).Dispose();

        logged.Should().ContainMatch("Information*163 coordinates*").And.ContainMatch("Debug*Sequence 1*");
        measured.Should().Contain(["continuousdl.steps", "continuousdl.loss", "continuousdl.update.size", "continuousdl.phase.duration"]);
    }

    private static ContinuousDLBuilder<Sequential> Add(IServiceCollection services, Action<ProactiveTrainerOptions> configure) =>
        services.AddContinuousDL(_ => TestModels.Mlp(), configure).UseOptimizer((_, model) => new FusedAdam(model.parameters()));

    private sealed class Collector(List<string> messages) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            messages.Add($"{logLevel}: {formatter(state, exception)}");

        public void Dispose()
        {
        }
    }
}
