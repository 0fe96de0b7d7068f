using System.Net;
using ContinuousDL.Optimization;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Wire;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Transport;

/// <summary>Over HTTP a replica gets what brings it forward, whatever it has, and learns at once of what is new.</summary>
public class HttpTransportTests
{
    private static readonly UpdateCodec Codec = new();

    [Test]
    public async Task A_replica_starts_follows_and_resumes_over_http()
    {
        await using var server = await HttpServer.Start();
        using var trainer = new Trainer(server.Transport);
        var source = server.Source();

        // From nothing.
        var first = await source.ReceiveAsync(Guid.Empty, 0);
        using var replica = new ModelReplica<Sequential>(() => TestModels.Mlp(), first.Snapshot!);
        replica.Digest.Should().Be(trainer.Proactive.Deployed.Digest);

        // Step by step, and several at once.
        for (var round = 1; round <= 4; round++)
        {
            for (var i = 0; i < round; i++) await trainer.StepAsync();
            var batch = await source.ReceiveAsync(replica.RunId, replica.Sequence);
            batch.Snapshot.Should().BeNull("the replica has a state to go on from");
            foreach (var message in batch.Messages) replica.Apply(message.Bytes.Span, Codec);
            batch.NewestSequence.Should().Be(trainer.Proactive.Deployed.Sequence);
            replica.Digest.Should().Be(trainer.Proactive.Deployed.Digest);
        }

        replica.Verify().Should().BeTrue();
    }

    [Test]
    public async Task A_request_waits_until_there_is_something_new()
    {
        await using var server = await HttpServer.Start();
        using var trainer = new Trainer(server.Transport);
        var waiting = server.Source().ReceiveAsync(trainer.Proactive.Deployed.RunId, 0).AsTask();
        await server.Client.GetAsync("/updates?run=x");
        waiting.IsCompleted.Should().BeFalse();
        await trainer.StepAsync();
        (await waiting.WaitAsync(Patience.Limit)).Messages.Should().ContainSingle();
    }

    [Test]
    public async Task A_request_that_waits_for_nothing_is_answered_with_what_there_is()
    {
        await using var server = await HttpServer.Start();
        using var trainer = new Trainer(server.Transport);
        var run = trainer.Proactive.Deployed.RunId;
        using var nothing = await server.Client.GetAsync($"/updates?run={run}&sequence=0&wait=0");
        nothing.StatusCode.Should().Be(HttpStatusCode.NoContent);
        await trainer.StepAsync();
        using var something = await server.Client.GetAsync($"/updates?run={run}&sequence=0&wait=0");
        something.StatusCode.Should().Be(HttpStatusCode.OK);
        something.Content.Headers.ContentType!.MediaType.Should().Be(UpdateBatchFormat.MediaType);
    }

    [TestCase("run=7")]
    [TestCase("sequence=-1")]
    [TestCase("sequence=99999999999999999999")]
    [TestCase("wait=-1")]
    [TestCase("wait=NaN")]
    public async Task A_query_that_makes_no_sense_is_refused(string query)
    {
        await using var server = await HttpServer.Start();
        using var answer = await server.Client.GetAsync($"/updates?{query}");
        answer.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        (await answer.Content.ReadAsStringAsync()).Should().Contain(query.Split('=')[0]);
    }

    [Test]
    public async Task Cancelling_ends_the_wait()
    {
        await using var server = await HttpServer.Start();
        using var trainer = new Trainer(server.Transport);
        using var cancellation = new CancellationTokenSource();
        var waiting = server.Source().ReceiveAsync(trainer.Proactive.Deployed.RunId, 0, cancellation.Token).AsTask();
        cancellation.Cancel();
        await waiting.Invoking(w => w).Should().ThrowAsync<OperationCanceledException>();
    }

    [Test]
    public async Task A_server_that_is_gone_or_has_no_updates_there_is_an_IOException()
    {
        var server = await HttpServer.Start();
        var elsewhere = new HttpUpdateSource(server.Client, new Uri("/elsewhere", UriKind.Relative));
        await elsewhere.Invoking(s => s.ReceiveAsync(Guid.Empty, 0).AsTask()).Should().ThrowAsync<IOException>().WithMessage("*404*");
        var wrong = new HttpUpdateSource(server.Client, new Uri("/text", UriKind.Relative));
        await wrong.Invoking(s => s.ReceiveAsync(Guid.Empty, 0).AsTask()).Should().ThrowAsync<IOException>().WithMessage("*text/plain*");
        var source = server.Source();
        server.Transport.Dispose();
        await source.Invoking(s => s.ReceiveAsync(Guid.Empty, 0).AsTask()).Should().ThrowAsync<IOException>().WithMessage("*503*");
        await server.DisposeAsync();
        await source.Invoking(s => s.ReceiveAsync(Guid.Empty, 0).AsTask()).Should().ThrowAsync<IOException>();
    }

    [Test]
    public void A_client_that_gives_up_before_the_wait_is_over_is_refused()
    {
        using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(5) };
        var make = () => new HttpUpdateSource(client, new Uri("http://localhost/updates"));
        make.Should().Throw<ArgumentException>().WithParameterName("client");
    }

    [Test]
    public void Options_out_of_range_are_refused()
    {
        using var client = new HttpClient();
        var make = () => new HttpUpdateSource(client, new Uri("http://localhost/updates"), new() { Wait = TimeSpan.FromSeconds(-1) });
        make.Should().Throw<ArgumentException>().WithMessage("*Wait*");
    }

    /// <summary>A trainer that publishes.</summary>
    private sealed class Trainer : IDisposable
    {
        private readonly InMemoryUpdateTransport transport;
        private readonly Sequential model = TestModels.Mlp();
        private readonly CrossEntropyLoss loss = nn.CrossEntropyLoss();
        private readonly FusedSgd optimizer;
        private int steps;

        public Trainer(InMemoryUpdateTransport transport)
        {
            this.transport = transport;
            optimizer = new FusedSgd(model.parameters(), 0.1);
            Proactive = new ProactiveTrainer(model, loss, optimizer, new ProactiveTrainerOptions { BatchSize = 8, Density = 0.05 });
            transport.PublishAsync(Proactive.CreateSnapshot()).AsTask().Wait();
        }

        public ProactiveTrainer Proactive { get; }

        public async Task StepAsync()
        {
            using var step = Train();
            await transport.PublishAsync(step.Update!);
        }

        public void Dispose()
        {
            Proactive.Dispose();
            optimizer.Dispose();
            loss.Dispose();
            model.Dispose();
        }

        private StepResult Train()
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = TestModels.Arrivals(8, steps++);
            return Proactive.Step(inputs, targets);
        }
    }
}
