using ContinuousDL.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.Samples;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.UpdateLogs;

/// <summary>An update may lead past sequences that were never published, as after a full disk: everything goes on from there.</summary>
public class SkippedSequenceTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void MakeFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void ContinueFrom_can_be_appended_where_several_updates_were_not()
    {
        using var scope = NewDisposeScope();
        using var model = TestModels.WithBatchNorm();
        using var loss = nn.CrossEntropyLoss();
        using var trainer = new ProactiveTrainer(model, loss, optim.SGD(model.parameters(), 0.1), new() { BatchSize = 8, TriggerSize = 4 });
        using var log = UpdateLog.Open(folder.Path);
        log.WriteSnapshot(trainer.CreateSnapshot());
        for (var i = 0; i < 3; i++)
        {
            var (inputs, targets) = TestModels.Arrivals(4, i);
            using var result = trainer.Step(inputs, targets);
            if (i == 0) log.Append(result.Update!);
        }

        using var update = trainer.ContinueFrom(log.HeadSnapshot());
        log.Append(update!).Should().BeTrue();
        log.Append(update!).Should().BeFalse();
        log.Head.Should().Be(new NewestState(trainer.Deployed.RunId, 3, trainer.Deployed.Digest));
    }

    [Test]
    public async Task Every_way_to_replicas_leads_over_skipped_sequences([Values("memory", "log", "directory")] string kind, [Values(1, 300, 1 << 20)] int segmentBytes)
    {
        var states = new PublishedStates(1);
        using var log = Open(segmentBytes);
        using var memory = new InMemoryUpdateTransport();
        IUpdatePublisher publisher = kind == "memory" ? memory : log;
        IUpdateSource source = kind switch { "memory" => memory, "log" => log, _ => new DirectoryUpdateSource(folder.Path, TimeSpan.FromMilliseconds(1)) };
        await publisher.PublishAsync(states.Newest);
        var published = await PublishAsync(publisher, states, [1, 2, 5, 6, 9, 30]);

        foreach (var from in published.Keys.Append(0).Where(s => s < 30))
        {
            var batch = await source.ReceiveAsync(states.RunId, from);
            batch.NewestSequence.Should().Be(30);
            ShouldLeadToTheNewest(states, states.States[from], batch);
        }

        foreach (var skipped in new long[] { 3, 4, 7, 29 })
        {
            (await source.ReceiveAsync(states.RunId, skipped)).Snapshot.Should().NotBeNull("no update leads on from {0}", skipped);
            using var again = ModelUpdate.Between(states.States[skipped - 1], states.States[skipped], skipped);
            await FluentActions.Awaiting(() => publisher.PublishAsync(again).AsTask()).Should().ThrowAsync<UpdateConflictException>().WithMessage("*led past it*");
        }

        foreach (var update in published.Values) await publisher.PublishAsync(update);
        using var gap = Later(states, 40, from: 35);
        await FluentActions.Awaiting(() => publisher.PublishAsync(gap).AsTask()).Should().ThrowAsync<UpdateGapException>();
        foreach (var update in published.Values) update.Dispose();
    }

    [Test]
    public async Task Skipped_sequences_survive_reopening_compaction_and_going_back([Values(1, 300, 1 << 20)] int segmentBytes)
    {
        var states = new PublishedStates(1);
        long[] sequences = [1, 4, 5, 20, 21, 25, 40, 41, 50];
        using (var log = Open(segmentBytes))
        {
            log.WriteSnapshot(states.Newest);
            foreach (var update in (await PublishAsync(log, states, sequences[..3])).Values) update.Dispose();
            log.WriteSnapshot(states.Newest);
            foreach (var update in (await PublishAsync(log, states, sequences[3..])).Values) update.Dispose();
        }

        using var reopened = Open(segmentBytes);
        reopened.Head!.Value.Sequence.Should().Be(50);
        foreach (var sequence in sequences) PublishedStates.ShouldBeTheSame(reopened.StateAt(sequence), states.States[sequence]);
        reopened.Invoking(l => l.StateAt(30)).Should().Throw<ArgumentOutOfRangeException>().WithMessage("*led past it*");
        reopened.Compact();
        reopened.OldestSequence.Should().Be(0, "nine updates are not more than are kept, however far they lead");
        using var back = reopened.RollBackTo(21);
        (back.Sequence, back.StateDigest).Should().Be((51, states.States[21].StateDigest));
    }

    [Test]
    public void A_replica_follows_over_skipped_sequences()
    {
        using var scope = NewDisposeScope();
        using var model = TestModels.WithBatchNorm();
        using var loss = nn.CrossEntropyLoss();
        using var trainer = new ProactiveTrainer(model, loss, optim.SGD(model.parameters(), 0.1), new() { BatchSize = 8, TriggerSize = 4 });
        using var replica = new ModelReplica<nn.Module<Tensor, Tensor>>(TestModels.WithBatchNorm, trainer.CreateSnapshot());
        using var log = Open(1 << 20);
        log.WriteSnapshot(trainer.CreateSnapshot());
        for (var i = 0; i < 3; i++)
        {
            var (inputs, targets) = TestModels.Arrivals(4, i);
            trainer.Step(inputs, targets).Dispose();
        }

        using (var update = trainer.ContinueFrom(log.HeadSnapshot())) log.Append(update!);

        foreach (var message in log.ReadFrom(trainer.Deployed.RunId, 0).Messages) replica.Apply(message.Bytes.Span, new UpdateCodec()).Should().BeTrue();

        (replica.Sequence, replica.Digest, replica.Verify()).Should().Be((3, trainer.Deployed.Digest, true));
    }

    private UpdateLog Open(int segmentBytes) =>
        UpdateLog.Open(folder.Path, new() { FlushOnAppend = false, SegmentBytes = segmentBytes, SnapshotInterval = 10, KeepUpdates = 9, CompactAutomatically = false });

    /// <summary>Makes the states up to the last of the sequences, and publishes updates from one sequence to the next.</summary>
    private static async Task<SortedDictionary<long, ModelUpdate>> PublishAsync(IUpdatePublisher publisher, PublishedStates states, long[] sequences)
    {
        var published = new SortedDictionary<long, ModelUpdate>();
        var last = states.Newest.Sequence;
        foreach (var sequence in sequences)
        {
            var update = Later(states, sequence, last);
            await publisher.PublishAsync(update);
            published[sequence] = update;
            last = sequence;
        }

        return published;
    }

    private static ModelUpdate Later(PublishedStates states, long sequence, long from)
    {
        while (states.Newest.Sequence < sequence) states.Next().Dispose();
        return ModelUpdate.Between(states.States[from], states.States[sequence], sequence);
    }

    private static void ShouldLeadToTheNewest(PublishedStates states, ModelSnapshot from, UpdateBatch batch)
    {
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
