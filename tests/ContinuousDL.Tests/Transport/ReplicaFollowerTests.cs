using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Threading.Channels;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.Diagnostics;
using ContinuousDL.Tests.Samples;
using ContinuousDL.Tests.UpdateLogs;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Transport;

/// <summary>Whatever happens on the way, a replica ends identical to what was published, without a restart, and says what it does.</summary>
public class ReplicaFollowerTests
{
    [Test]
    public async Task A_replica_that_starts_late_takes_a_snapshot_and_follows()
    {
        using var trainer = new Publisher();
        trainer.Publish(20);
        using var replica = Publisher.NewReplica();
        await using var following = new Following(replica, trainer.Transport);
        await following.UntilAsync(trainer);
        following.States.Should().Equal(ReplicaState.Current);
        for (var i = 0; i < 5; i++)
        {
            trainer.Publish(1);
            await following.UntilAsync(trainer);
        }

        following.States.Should().Equal([ReplicaState.Current], "it has not been behind by more than it was told at once");
        trainer.ShouldBeAt(replica);
    }

    [Test]
    public async Task A_replica_that_was_offline_catches_up_with_updates_or_with_a_snapshot()
    {
        using var trainer = new Publisher(capacity: 10);
        using var replica = Publisher.NewReplica();
        foreach (var missed in new[] { 3, 30 })
        {
            await using (var following = new Following(replica, trainer.Transport)) await following.UntilAsync(trainer);
            trainer.Publish(missed);
        }

        await using var last = new Following(replica, trainer.Transport);
        await last.UntilAsync(trainer);
        trainer.ShouldBeAt(replica);
    }

    [Test]
    public async Task A_replica_that_has_drifted_resyncs()
    {
        using var trainer = new Publisher();
        using var model = Publisher.NewModel();
        using var replica = TestReplicas.Make(Publisher.NewModel, ModelSnapshot.Of(model), out var copies);
        await using var following = new Following(replica, trainer.Transport);
        await following.UntilAsync(trainer);
        using (no_grad())
        {
            using Scalar value = 0.123f;
            foreach (var parameter in copies.SelectMany(c => c.parameters())) parameter.fill_(value);
        }

        trainer.Publish(1);
        await following.UntilAsync(trainer);
        following.States.Should().Contain(ReplicaState.Resyncing);
        following.Reasons.Should().Contain(r => r.Length > 0);
        trainer.ShouldBeAt(replica);
    }

    [Test]
    public async Task A_replica_goes_over_to_the_run_of_a_trainer_that_started_anew()
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        await using var following = new Following(replica, trainer.Transport);
        trainer.Publish(5);
        await following.UntilAsync(trainer);
        using var other = new Publisher(seed: 2, transport: trainer.Transport);
        other.Publish(3);
        await following.UntilAsync(other);
        other.ShouldBeAt(replica);
    }

    [Test]
    public async Task A_source_that_fails_is_told_and_tried_again_until_it_is_back()
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = new Following(replica, source);
        foreach (var place in new[] { "here", "there", "anywhere" }) source.Answer(() => throw new IOException($"No route from {place}."));
        await following.UntilAsync(s => s is { State: ReplicaState.Failed, Reason: "No route from anywhere." });
        source.Answer(() => new UpdateBatch { Snapshot = trainer.States.Newest, NewestSequence = 0 });
        await following.UntilAsync(trainer);
        following.States.Should().Equal(ReplicaState.Failed, ReplicaState.Failed, ReplicaState.Failed, ReplicaState.Current);
        following.Reasons.Should().Equal("No route from here.", "No route from there.", "No route from anywhere.", "");
    }

    [Test]
    public async Task Damage_that_does_not_go_away_leads_to_a_snapshot_and_a_source_without_one_to_failure()
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = new Following(replica, source);
        var first = trainer.States.Newest;
        source.Answer(() => new UpdateBatch { Snapshot = first, NewestSequence = 0 });
        trainer.Publish(1);
        var damaged = new UpdateBatch { Messages = [new UpdateMessage(new byte[] { 1, 2, 3 }, default)], NewestSequence = 1 };
        for (var i = 0; i < 3; i++) source.Answer(() => damaged);
        await following.UntilAsync(s => s.State == ReplicaState.Resyncing);
        for (var i = 0; i < 4; i++) source.Answer(() => damaged);
        await following.UntilAsync(s => s.State == ReplicaState.Failed);
        var run = trainer.States.RunId;
        source.Asked.Select(a => a.RunId).Should().Equal(Guid.Empty, run, run, run, Guid.Empty, Guid.Empty, Guid.Empty, Guid.Empty);
        replica.Verify().Should().BeTrue();
        source.Answer(() => new UpdateBatch { Snapshot = trainer.States.Newest, NewestSequence = 1 });
        await following.UntilAsync(trainer);
        trainer.ShouldBeAt(replica);
    }

    [Test]
    public async Task Updates_that_do_not_fit_the_snapshot_before_them_are_a_failure_in_the_end()
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        trainer.Publish(2);
        var start = trainer.States.States[0];
        var snapshot = new ModelSnapshot(start.Layout, [.. start.Layout.Entries.Select((_, i) => start.Values(i).ToArray())], start.RunId, 1);
        using var wrong = ModelUpdate.Between(trainer.States.States[1], trainer.States.States[2], 2);
        var message = new UpdateMessage(new UpdateCodec().Encode(wrong), default);
        var source = new ScriptedSource();
        await using var following = new Following(replica, source);
        for (var i = 0; i < 5; i++) source.Answer(() => new UpdateBatch { Snapshot = snapshot, Messages = [message], NewestSequence = 2 });
        await following.UntilAsync(s => s.State == ReplicaState.Failed);
        replica.Sequence.Should().Be(1);
        replica.Digest.Should().Be(snapshot.StateDigest, "it answers from the last state that was right");
        source.Answer(() => new UpdateBatch { Snapshot = trainer.States.Newest, NewestSequence = 2 });
        await following.UntilAsync(trainer);
    }

    [Test]
    public async Task Unsigned_updates_are_refused_by_a_replica_with_a_key()
    {
        using var signing = UpdateSigning.HmacSha256(new byte[32]);
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        await using (var following = new Following(replica, trainer.Transport)) await following.UntilAsync(trainer);
        var source = new ScriptedSource();
        await using var careful = new Following(replica, source, new UpdateCodec(new UpdateCodecOptions { Signing = signing }));
        using var update = trainer.States.Next();
        source.Answer(() => new UpdateBatch { Messages = [new UpdateMessage(new UpdateCodec().Encode(update), default)], NewestSequence = 1 });
        await careful.UntilAsync(s => s.Reason?.Contains("signed") == true);
        replica.Sequence.Should().Be(0);
    }

    [Test]
    public async Task What_it_does_is_measured()
    {
        var measured = new ConcurrentBag<(string Instrument, double Value, string Tags)>();
        using var meters = new TestMeters();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Meter.Scope == meters) l.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((i, value, tags, _) => measured.Add((i.Name, value, string.Join(",", tags.ToArray().Select(t => $"{t.Key}={t.Value}")))));
        listener.SetMeasurementEventCallback<double>((i, value, tags, _) => measured.Add((i.Name, value, string.Join(",", tags.ToArray().Select(t => $"{t.Key}={t.Value}")))));
        listener.Start();
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = new Following(replica, source, meters: meters);
        var start = trainer.States.Newest;
        source.Answer(() => new UpdateBatch { Snapshot = start, NewestSequence = 4 });
        trainer.Publish(1);
        var batch = await trainer.Transport.ReceiveAsync(trainer.States.RunId, 0);
        source.Answer(() => new UpdateBatch { Messages = [new UpdateMessage(new byte[] { 1 }, default), .. batch.Messages], NewestSequence = 1 });
        await following.UntilAsync(s => s is { Sequence: 1 });
        measured.Select(m => (m.Instrument, m.Tags)).Should().BeEquivalentTo(
        [
            ("continuousdl.replica.resyncs", "replica=replica"),
            ("continuousdl.replica.lag", "replica=replica"),
            ("continuousdl.replica.refused", "replica=replica,reason=damaged"),
            ("continuousdl.replica.delay", "replica=replica"),
            ("continuousdl.replica.lag", "replica=replica"),
        ]);
        measured.Where(m => m.Instrument == "continuousdl.replica.lag").Select(m => m.Value).Should().BeEquivalentTo([4.0, 3.0]);
    }

    [Test]
    public async Task A_snapshot_of_another_architecture_is_a_failure_and_leaves_the_replica_as_it_is()
    {
        using var model = TestModels.WithBatchNorm();
        using var replica = Publisher.NewReplica();
        var digest = replica.Digest;
        var source = new ScriptedSource();
        await using var following = new Following(replica, source);
        source.Answer(() => new UpdateBatch { Snapshot = ModelSnapshot.Of(model) });
        await following.UntilAsync(s => s.State == ReplicaState.Failed);
        following.Reasons.Should().Contain(r => r.Contains("architecture"));
        replica.Digest.Should().Be(digest);
    }

    [Test]
    public async Task An_old_snapshot_that_comes_late_does_not_take_the_replica_back()
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = new Following(replica, source);
        trainer.Publish(3);
        source.Answer(() => new UpdateBatch { Snapshot = trainer.States.Newest, NewestSequence = 3 });
        await following.UntilAsync(trainer);
        source.Answer(() => new UpdateBatch { Snapshot = trainer.States.States[1], NewestSequence = 1 });
        source.Answer(() => UpdateBatch.Empty);
        await source.DrainedAsync();
        replica.Sequence.Should().Be(3);
    }

    [Test]
    public async Task A_replica_is_current_again_as_soon_as_a_source_that_failed_answers()
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = new Following(replica, source);
        source.Answer(() => new UpdateBatch { Snapshot = trainer.States.Newest });
        await following.UntilAsync(trainer);
        source.Answer(() => throw new IOException("The line is down."));
        await following.UntilAsync(s => s.State == ReplicaState.Failed);
        source.Answer(() => UpdateBatch.Empty);
        await following.UntilAsync(trainer);

        // One that says there is more, and doesn't give it, is something else.
        source.Answer(() => new UpdateBatch { NewestSequence = 7 });
        await following.UntilAsync(s => s is { State: ReplicaState.CatchingUp, Lag: 7 });
    }

    [Test]
    public async Task A_source_with_nothing_new_answers_so_after_a_while()
    {
        using var trainer = new Publisher();
        var batch = await trainer.Transport.ReceiveAsync(trainer.States.RunId, trainer.States.Newest.Sequence).AsTask().WaitAsync(Patience.Limit);
        batch.IsEmpty.Should().BeTrue();
    }

    [Test]
    public async Task A_replica_that_is_ahead_of_a_source_which_has_lost_updates_goes_back_with_it()
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        trainer.Publish(5);
        await using (var following = new Following(replica, trainer.Transport)) await following.UntilAsync(trainer);
        using var restored = new InMemoryUpdateTransport();
        await restored.PublishAsync(trainer.States.States[3]);
        await using var again = new Following(replica, restored);
        await again.UntilAsync(s => s is { State: ReplicaState.Current, Sequence: 3 });
        replica.Digest.Should().Be(trainer.States.States[3].StateDigest);
        again.States.Should().Contain(ReplicaState.Resyncing);
    }

    [Test]
    public async Task The_directory_of_a_log_is_followed_while_it_is_written_and_compacted()
    {
        using var folder = new TemporaryFolder();
        using var replica = Publisher.NewReplica();
        await using var following = new Following(replica, new DirectoryUpdateSource(Path.Combine(folder.Path, "log"), TimeSpan.FromMilliseconds(1)));
        using var log = UpdateLog.Open(
            Path.Combine(folder.Path, "log"),
            new UpdateLogOptions { FlushOnAppend = false, SnapshotInterval = 50, KeepUpdates = 100, SegmentBytes = 1000 });
        using var trainer = new Publisher(transport: log);
        for (var i = 0; i < 100; i++)
        {
            trainer.Publish(10);
            await Task.Yield();
        }

        await following.UntilAsync(trainer);
        trainer.ShouldBeAt(replica);
        log.CompactionError.Should().BeNull();

        // So that none in the background removes the oldest state before it can be gone back to.
        log.Compact();
        using (var update = log.RollBackTo(log.OldestSequence!.Value)) await following.UntilAsync(s => s.Sequence == update.Sequence && s.State == ReplicaState.Current);
        replica.Digest.Should().Be(log.Head!.Value.Digest);
    }

    [Test]
    [Category("Slow")]
    public async Task Replicas_over_bad_lines_end_identical([Values("memory", "log", "directory")] string kind)
    {
        var updates = kind == "directory" ? 2_000 : 10_000;
        using var folder = new TemporaryFolder();
        using var memory = new InMemoryUpdateTransport(capacity: 64);
        using var log = UpdateLog.Open(folder.Path, new UpdateLogOptions { FlushOnAppend = false, SnapshotInterval = 500, KeepUpdates = 1000 });
        using var trainer = new Publisher(transport: kind == "memory" ? memory : log);
        var replicas = Enumerable.Range(0, 3).Select(_ => Publisher.NewReplica()).ToArray();
        var sources = Enumerable.Range(0, 3).Select(i => new FaultySource(
            kind switch { "memory" => memory, "log" => log, _ => new DirectoryUpdateSource(folder.Path, TimeSpan.FromMilliseconds(1)) }, i, 0.1)).ToArray();
        var followings = replicas.Zip(sources, (r, s) => new Following(r, s)).ToArray();
        for (var i = 0; i < updates; i++)
        {
            trainer.Publish(1);

            // So that the replicas see many states of the log, and not just the last.
            if (i % 20 == 0) await followings[i / 20 % 3].UntilAsync(s => s.Sequence > i - 40);
        }

        foreach (var following in followings) await following.UntilAsync(trainer);
        foreach (var (replica, following) in replicas.Zip(followings))
        {
            trainer.ShouldBeAt(replica);
            await following.DisposeAsync();
            replica.Dispose();
        }

        for (var kindOfFault = 0; kindOfFault < sources[0].Faults.Length; kindOfFault++) sources.Sum(s => s.Faults[kindOfFault]).Should().BePositive();
    }
}
