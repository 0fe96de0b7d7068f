using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.Samples;
using ContinuousDL.Tests.UpdateLogs;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Transport;

/// <summary>What every transport keeps to, whatever carries the updates.</summary>
[TestFixture("memory")]
[TestFixture("log")]
[TestFixture("directory")]
public class TransportContractTests(string kind)
{
    private TemporaryFolder folder = null!;
    private UpdateLog log = null!;
    private InMemoryUpdateTransport memory = null!;
    private IUpdatePublisher publisher = null!;
    private IUpdateSource source = null!;
    private PublishedStates states = null!;

    [SetUp]
    public void Make()
    {
        folder = new TemporaryFolder();
        log = UpdateLog.Open(folder.Path, new UpdateLogOptions { FlushOnAppend = false });
        memory = new InMemoryUpdateTransport(capacity: 8);
        publisher = kind == "memory" ? memory : log;
        source = kind switch { "memory" => memory, "log" => log, _ => new DirectoryUpdateSource(folder.Path, TimeSpan.FromMilliseconds(1)) };
        states = new PublishedStates(1, ModelLayout.Of([new("weight", CoordinateKind.Parameter, DType.Float32, [2000])]));
    }

    [TearDown]
    public void Remove()
    {
        memory.Dispose();
        log.Dispose();
        folder.Dispose();
    }

    [Test]
    public async Task ReceiveAsync_waits_for_the_first_snapshot_and_for_newer_updates()
    {
        var waiting = source.ReceiveAsync(Guid.Empty, 0).AsTask();
        waiting.IsCompleted.Should().BeFalse();
        await publisher.PublishAsync(states.Newest);
        var start = await waiting;
        start.Snapshot!.StateDigest.Should().Be(states.Newest.StateDigest);
        start.NewestSequence.Should().Be(0);

        var next = source.ReceiveAsync(states.RunId, 0).AsTask();
        next.IsCompleted.Should().BeFalse();
        await PublishAsync(1);
        var batch = await next;
        batch.Snapshot.Should().BeNull();
        UpdateCodec.ReadHeader(batch.Messages.Should().ContainSingle().Subject.Bytes.Span).Sequence.Should().Be(1);
        batch.NewestSequence.Should().Be(1);
        batch.Messages[0].PublishedAt.Should().BeCloseTo(DateTimeOffset.UtcNow, TimeSpan.FromMinutes(5));
    }

    [Test]
    public async Task ReceiveAsync_ends_with_cancellation()
    {
        using var cancelling = new CancellationTokenSource();
        var waiting = source.ReceiveAsync(Guid.Empty, 0, cancelling.Token).AsTask();
        await cancelling.CancelAsync();
        await waiting.Invoking(w => w).Should().ThrowAsync<OperationCanceledException>();
        await FluentActions.Awaiting(() => source.ReceiveAsync(Guid.Empty, 0, cancelling.Token).AsTask()).Should().ThrowAsync<OperationCanceledException>();
    }

    [Test]
    public async Task Every_state_is_brought_to_the_newest_one()
    {
        await publisher.PublishAsync(states.Newest);
        await PublishAsync(20);
        foreach (var from in states.States.Values.Where(s => s.Sequence < 20))
        {
            var batch = await source.ReceiveAsync(from.RunId, from.Sequence);
            using var replica = new PublishedHead();
            replica.Start(batch.Snapshot ?? from);
            foreach (var message in batch.Messages)
            {
                using var update = new UpdateCodec().Decode(message.Bytes.Span, replica.Required);
                replica.Required.Write(update, replica.Required.DigestAfter(update));
            }

            PublishedStates.ShouldBeTheSame(replica.Required.CreateSnapshot(), states.Newest);
        }
    }

    [TestCase(true, 3)]
    [TestCase(false, 21)]
    [TestCase(false, -1)]
    public async Task A_state_that_is_not_known_gets_a_snapshot(bool otherRun, long sequence)
    {
        await publisher.PublishAsync(states.Newest);
        await PublishAsync(20);
        var batch = await source.ReceiveAsync(otherRun ? Guid.NewGuid() : states.RunId, sequence);
        batch.Snapshot.Should().NotBeNull();
        batch.NewestSequence.Should().Be(20);
    }

    [Test]
    public async Task Publishing_again_does_nothing_and_something_else_is_refused()
    {
        await publisher.PublishAsync(states.Newest);
        await publisher.PublishAsync(states.Newest);
        using var first = states.Next();
        using var second = states.Next();
        await FluentActions.Awaiting(() => publisher.PublishAsync(second).AsTask()).Should().ThrowAsync<UpdateGapException>();
        await publisher.PublishAsync(first);
        await publisher.PublishAsync(first);
        await publisher.PublishAsync(second);
        await publisher.PublishAsync(first);
        var other = new PublishedStates(1, states.Newest.Layout);
        using var otherFirst = other.Next(9);
        using var otherSecond = other.Next();
        await FluentActions.Awaiting(() => publisher.PublishAsync(otherSecond).AsTask()).Should().ThrowAsync<UpdateConflictException>();
        await FluentActions.Awaiting(() => publisher.PublishAsync(otherFirst).AsTask()).Should().ThrowAsync<UpdateConflictException>();
        await FluentActions.Awaiting(() => publisher.PublishAsync(states.States[1]).AsTask()).Should().ThrowAsync<UpdateConflictException>();
        (await source.ReceiveAsync(states.RunId, 0)).NewestSequence.Should().Be(2);
    }

    [Test]
    public async Task Nothing_can_be_published_before_a_snapshot_or_after_cancellation()
    {
        using var update = states.Next();
        await FluentActions.Awaiting(() => publisher.PublishAsync(update).AsTask()).Should().ThrowAsync<InvalidOperationException>();
        await FluentActions.Awaiting(() => publisher.PublishAsync(states.Newest, new CancellationToken(canceled: true)).AsTask()).Should().ThrowAsync<OperationCanceledException>();
        await FluentActions.Awaiting(() => publisher.PublishAsync(update, new CancellationToken(canceled: true)).AsTask()).Should().ThrowAsync<OperationCanceledException>();
    }

    [Test]
    public async Task Many_replicas_get_the_same()
    {
        await publisher.PublishAsync(states.Newest);
        var readers = Enumerable.Range(0, 20).Select(async _ =>
        {
            var sequence = 0L;
            while (sequence < 30) sequence = (await source.ReceiveAsync(states.RunId, sequence)).NewestSequence;
        }).ToArray();
        await PublishAsync(30);
        await Task.WhenAll(readers).WaitAsync(Patience.Limit);
    }

    private async Task PublishAsync(int count)
    {
        for (var i = 0; i < count; i++)
        {
            using var update = states.Next();
            await publisher.PublishAsync(update);
        }
    }
}
