using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.Samples;
using TorchSharp.Modules;

namespace ContinuousDL.Tests.Transport;

/// <summary>A replica with a key does not go back, whatever its source shows it, also after a restart; unless it is told that it may.</summary>
public class RollbackTests
{
    private static readonly ReplicaFollowerOptions Quick = new() { RetryDelay = TimeSpan.FromMilliseconds(1), MaxRetryDelay = TimeSpan.FromMilliseconds(4) };

    private UpdateSigning signing = null!;
    private UpdateCodec codec = null!;

    [SetUp]
    public void Make()
    {
        signing = UpdateSigning.HmacSha256(new byte[32]);
        codec = new UpdateCodec(new() { Signing = signing });
    }

    [TearDown]
    public void Remove() => signing.Dispose();

    [Test]
    public async Task Rubbish_does_not_make_it_accept_an_old_signed_snapshot()
    {
        using var trainer = new Publisher(codec: codec);
        trainer.Publish(20);
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = new Following(replica, source, codec);
        source.Answer(() => new UpdateBatch { Snapshot = codec.Sign(trainer.States.Newest), NewestSequence = 20 });
        await following.UntilAsync(trainer);
        var rubbish = new UpdateBatch { Messages = [new UpdateMessage(new byte[] { 1, 2, 3 }, default)], NewestSequence = 21 };
        for (var i = 0; i < 3; i++) source.Answer(() => rubbish);
        await following.UntilAsync(s => s.State == ReplicaState.Resyncing);
        for (var i = 0; i < 4; i++) source.Answer(() => new UpdateBatch { Snapshot = codec.Sign(trainer.States.States[0]), NewestSequence = 0 });
        await following.UntilAsync(s => s.State == ReplicaState.Failed && s.Reason!.Contains("highest seen was 20"));
        trainer.ShouldBeAt(replica);

        // And is well again when the right source is back.
        trainer.Publish(1);
        source.Answer(() => new UpdateBatch { Snapshot = codec.Sign(trainer.States.Newest), NewestSequence = 21 });
        await following.UntilAsync(trainer);
    }

    [Test]
    [Category("Slow")]
    public async Task The_file_makes_it_remember_after_a_restart()
    {
        using var folder = new TemporaryFolder();
        var options = WithFile(folder);
        using var trainer = new Publisher(codec: codec);
        trainer.Publish(5);
        using (var replica = new ModelReplica<Sequential>(Publisher.NewModel))
        {
            await using var following = new Following(replica, trainer.Transport, codec, options: options);
            await following.UntilAsync(trainer);
        }

        using var restored = new InMemoryUpdateTransport(codec: codec);
        await restored.PublishAsync(trainer.States.States[3]);
        using var restarted = new ModelReplica<Sequential>(Publisher.NewModel);
        await using (var again = new Following(restarted, restored, codec, options: options)) await again.UntilAsync(s => s.State == ReplicaState.Failed && s.Reason!.Contains("highest seen was 5"));
        restarted.IsReady.Should().BeFalse();

        // A replica that has an old state of its own is not current by having it.
        using var behind = new ModelReplica<Sequential>(Publisher.NewModel, trainer.States.States[3]);
        await using (var again = new Following(behind, restored, codec, options: options)) await again.UntilAsync(s => s.State == ReplicaState.Failed);
        await using var right = new Following(restarted, trainer.Transport, codec, options: options);
        await right.UntilAsync(trainer);
    }

    [Test]
    public async Task It_goes_back_where_it_is_told_that_it_may()
    {
        using var folder = new TemporaryFolder();
        using var trainer = new Publisher(codec: codec);
        trainer.Publish(5);
        using var replica = Publisher.NewReplica();
        await using (var following = new Following(replica, trainer.Transport, codec, options: WithFile(folder))) await following.UntilAsync(trainer);
        using var restored = new InMemoryUpdateTransport(codec: codec);
        await restored.PublishAsync(trainer.States.States[3]);
        var allowed = WithFile(folder);
        allowed.AllowRollback = true;
        await using (var again = new Following(replica, restored, codec, options: allowed)) await again.UntilAsync(s => s is { State: ReplicaState.Current, Sequence: 3 });

        // From then on the lower sequence counts.
        using var restarted = new ModelReplica<Sequential>(Publisher.NewModel);
        await using var last = new Following(restarted, restored, codec, options: WithFile(folder));
        await last.UntilAsync(s => s is { State: ReplicaState.Current, Sequence: 3 });
    }

    [Test]
    public async Task An_older_snapshot_is_taken_where_the_updates_after_it_lead_on()
    {
        using var folder = new TemporaryFolder();
        using var trainer = new Publisher(codec: codec);
        trainer.Publish(5);
        using (var replica = Publisher.NewReplica())
        {
            await using var following = new Following(replica, trainer.Transport, codec, options: WithFile(folder));
            await following.UntilAsync(trainer);
        }

        var updates = (await trainer.Transport.ReceiveAsync(trainer.States.RunId, 2)).Messages;
        using var restarted = new ModelReplica<Sequential>(Publisher.NewModel);
        var source = new ScriptedSource();
        await using var again = new Following(restarted, source, codec, options: WithFile(folder));
        for (var i = 0; i < 5; i++) source.Answer(() => new UpdateBatch { Snapshot = codec.Sign(trainer.States.States[2]), Messages = [.. updates.Skip(1)], NewestSequence = 5 });
        await again.UntilAsync(s => s.State == ReplicaState.Failed);
        restarted.IsReady.Should().BeFalse("with a gap it leads nowhere");
        source.Answer(() => new UpdateBatch { Snapshot = codec.Sign(trainer.States.States[2]), Messages = updates, NewestSequence = 5 });
        await again.UntilAsync(trainer);
        trainer.ShouldBeAt(restarted);
    }

    [Test]
    public async Task A_new_run_is_followed_from_any_sequence_and_the_one_that_was_left_is_not_gone_back_to()
    {
        using var folder = new TemporaryFolder();
        using var first = new Publisher(seed: 1, codec: codec);
        first.Publish(9);
        using var replica = Publisher.NewReplica();
        await using (var following = new Following(replica, first.Transport, codec, options: WithFile(folder))) await following.UntilAsync(first);
        using var second = new Publisher(seed: 2, codec: codec);
        second.Publish(1);
        await using (var following = new Following(replica, second.Transport, codec, options: WithFile(folder))) await following.UntilAsync(second);
        first.Publish(1);
        await using (var following = new Following(replica, first.Transport, codec, options: WithFile(folder)))
        {
            await following.UntilAsync(s => s.State == ReplicaState.Failed && s.Reason!.Contains("was left"));
            second.ShouldBeAt(replica);
        }

        // Not even by a replica that has a state of it.
        using var old = new ModelReplica<Sequential>(Publisher.NewModel, first.States.States[9]);
        await using var last = new Following(old, first.Transport, codec, options: WithFile(folder));
        await last.UntilAsync(s => s.State == ReplicaState.Failed);
        old.Sequence.Should().Be(9);
    }

    [Test]
    public void A_file_that_is_damaged_is_told_and_one_for_a_follower_without_a_key_refused()
    {
        using var folder = new TemporaryFolder();
        using var replica = Publisher.NewReplica();
        using var trainer = new Publisher(codec: codec);
        var options = WithFile(folder);
        foreach (var text in new[] { "", "something else", "continuousdl sequences 1\nx 1", $"continuousdl sequences 1\n{Guid.NewGuid()} -1" })
        {
            File.WriteAllText(options.SequenceFile!, text);
            var make = () => new ReplicaFollower(replica, trainer.Transport, options, codec);
            make.Should().Throw<InvalidDataException>().WithMessage("*sequences*");
        }

        var without = () => new ReplicaFollower(replica, trainer.Transport, options);
        without.Should().Throw<ArgumentException>().WithMessage("*SequenceFile*key*");
    }

    [Test]
    public async Task A_file_that_can_not_be_written_does_not_keep_updates_away()
    {
        using var folder = new TemporaryFolder();
        var options = WithFile(folder);
        options.SequenceFile = Path.Combine(folder.Path, "missing", "sequences");
        using var trainer = new Publisher(codec: codec);
        using var replica = Publisher.NewReplica();
        await using var following = new Following(replica, trainer.Transport, codec, options: options);
        trainer.Publish(3);
        await following.UntilAsync(trainer);
    }

    private static ReplicaFollowerOptions WithFile(TemporaryFolder folder) => new()
    {
        RetryDelay = Quick.RetryDelay,
        MaxRetryDelay = Quick.MaxRetryDelay,
        SequenceFile = Path.Combine(folder.Path, "sequences"),
    };
}
