using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Output;
using ContinuousDL.Samples.FashionStream.Running;
using ContinuousDL.Samples.FashionStream.Strategies;

namespace ContinuousDL.Tests.Samples;

public sealed class StreamRunnerTests
{
    private const int ModelBytes = 4 * 61_706;
    private const int StreamLength = 80;

    private static readonly RunSettings Settings = new(Trigger: 8, Seed: 3, FewestEpochs: 1, FewestSamples: 1);

    private readonly StreamData data = StreamData.Load(StreamData.EmbeddedDirectory, DataFormat.Mnist, mostTraining: 96, mostTest: 20);

    [TestCase("static", 0, 0)]
    [TestCase("retrain", 5, ModelBytes)]
    [TestCase("online", 10, ModelBytes)]
    [TestCase("dense", 10, ModelBytes)]
    [TestCase("update-topk-1e-2", 10, 8 * 617)]
    [TestCase("ahead-topk-1e-3", 10, 8 * 61)]
    [TestCase("ahead-topk-k1", 10, 8)]
    [TestCase("difference-topk-1e-4", 10, 8 * 6)]
    [TestCase("gradient-topk-1e-3", 10, 8 * 61)]
    public void Strategy_sends_what_it_says_and_its_replica_is_identical(string name, int updates, int bytesPerUpdate)
    {
        var result = Run([name]).Single();

        result.Curve.Count.Should().Be(StreamLength);
        result.Work.Updates.Should().Be(updates);
        result.BytesPerUpdate.Should().Be(bytesPerUpdate);
        result.ReplicaIdentical.Should().BeTrue();
        result.Interrupted.Should().BeFalse();
    }

    [TestCase("update-randomk-1e-2")]
    [TestCase("ahead-randomk-1e-2")]
    [TestCase("difference-randomk-1e-2")]
    [TestCase("gradient-randomk-1e-2")]
    public void Random_choice_sends_at_most_its_density(string name)
    {
        var result = Run([name]).Single();
        result.BytesPerUpdate.Should().BeInRange(1, 8 * 617);
        result.ReplicaIdentical.Should().BeTrue();
    }

    [Test]
    public void Result_is_the_same_whatever_runs_beside_a_strategy()
    {
        string[] names = ["retrain", "dense", "update-randomk-1e-2", "ahead-topk-1e-3"];

        var together = Run(names, parallelism: 4);

        together.Select(result => result.Strategy.Name).Should().Equal(names);
        foreach (var result in together)
        {
            var alone = Run([result.Strategy.Name]).Single();
            (result.PrequentialAccuracy, result.TestAccuracy, result.Work.Bytes).Should().Be((alone.PrequentialAccuracy, alone.TestAccuracy, alone.Work.Bytes));
        }
    }

    [Test]
    public void Cancellation_gives_the_results_so_far()
    {
        using var cancellation = new CancellationTokenSource();
        var view = new Listener(whenSamples: 48, then: cancellation.Cancel);

        var results = Run(["online", "dense"], view: view, cancellation: cancellation.Token);

        var result = results.Should().ContainSingle().Subject;
        result.Strategy.Name.Should().Be("online");
        result.Interrupted.Should().BeTrue();
        result.Curve.Count.Should().Be(48);
        result.ReplicaIdentical.Should().BeTrue();
    }

    [Test]
    public void Cancellation_before_the_stream_gives_no_results() =>
        Run(["dense"], cancellation: new CancellationToken(canceled: true)).Should().BeEmpty();

    private IReadOnlyList<StrategyResult> Run(string[] names, int parallelism = 1, IProgressView? view = null, CancellationToken cancellation = default)
    {
        var threads = TorchSharp.torch.get_num_threads();
        try
        {
            return new StreamRunner(data, Settings, parallelism, view ?? new Listener()).Run(StrategyCatalog.Find(names, [1e-3]), cancellation);
        }
        finally
        {
            TorchSharp.torch.set_num_threads(threads);
        }
    }

    /// <summary>Does something when a strategy has dealt with so many samples.</summary>
    private sealed class Listener(int whenSamples = int.MaxValue, Action? then = null) : IProgressView, IProgressTask
    {
        public IProgressTask Begin(string name, int samples) => this;

        public void Report(Progress progress)
        {
            if (progress.Accuracy is not null && progress.Samples >= whenSamples) then?.Invoke();
        }

        public void End()
        {
        }
    }
}
