using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.Transport;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Deployment;

/// <summary>A replica without a state answers nothing, and nothing wrong: it says that it is not ready, and when it is.</summary>
public class ReplicaReadinessTests
{
    [Test]
    public void Without_a_state_nothing_is_answered()
    {
        using var replica = new ModelReplica<Sequential>(Publisher.NewModel);
        using var input = zeros(1, 32);
        replica.IsReady.Should().BeFalse();
        (replica.RunId, replica.Sequence, replica.Digest).Should().Be((Guid.Empty, 0L, 0UL));
        Action[] uses = [() => replica.Acquire(), () => replica.Predict(input), () => replica.Verify(), () => replica.CreateSnapshot()];
        foreach (var use in uses) use.Should().Throw<ReplicaNotReadyException>();
    }

    [Test]
    public void Without_a_state_no_update_is_applied()
    {
        using var trainer = new Publisher();
        using var update = trainer.States.Next();
        var message = new UpdateCodec().Encode(update);
        using var replica = new ModelReplica<Sequential>(Publisher.NewModel);
        replica.Invoking(r => r.Apply(update)).Should().Throw<ReplicaNotReadyException>();
        replica.Invoking(r => r.Apply(message, new UpdateCodec())).Should().Throw<ReplicaNotReadyException>();
        replica.IsReady.Should().BeFalse();
    }

    [Test]
    public async Task The_first_state_makes_it_ready_and_what_answers_tells_whose_it_is()
    {
        using var trainer = new Publisher();
        trainer.Publish(2);
        using var replica = new ModelReplica<Sequential>(Publisher.NewModel);
        var waiting = replica.WaitUntilReadyAsync(CancellationToken.None);
        waiting.IsCompleted.Should().BeFalse();
        replica.Restore(trainer.States.Newest);
        await waiting.WaitAsync(Patience.Limit);
        replica.IsReady.Should().BeTrue();
        await replica.WaitUntilReadyAsync(CancellationToken.None);
        using (var lease = replica.Acquire()) (lease.RunId, lease.Sequence, lease.Digest).Should().Be((trainer.States.RunId, 2L, trainer.States.Newest.StateDigest));
        using var update = trainer.States.Next();
        for (var i = 0; i < 2; i++) replica.Apply(update).Should().Be(i == 0);
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public async Task Waiting_ends_with_cancellation_and_with_the_replica()
    {
        var replica = new ModelReplica<Sequential>(Publisher.NewModel);
        using var stop = new CancellationTokenSource();
        var cancelled = replica.WaitUntilReadyAsync(stop.Token);
        var waiting = replica.WaitUntilReadyAsync(CancellationToken.None);
        await stop.CancelAsync();
        await cancelled.Invoking(t => t).Should().ThrowAsync<OperationCanceledException>();
        replica.Dispose();
        await waiting.Invoking(t => t).Should().ThrowAsync<ObjectDisposedException>();
        await replica.Invoking(r => r.WaitUntilReadyAsync(CancellationToken.None)).Should().ThrowAsync<ObjectDisposedException>();
    }

    [Test]
    public async Task A_follower_whose_source_is_away_leaves_it_not_ready_and_makes_it_ready_later()
    {
        using var trainer = new Publisher();
        trainer.Publish(1);
        using var replica = new ModelReplica<Sequential>(Publisher.NewModel);
        var source = new ScriptedSource();
        await using var following = new Following(replica, source);
        source.Answer(() => throw new IOException("No route."));
        await following.UntilAsync(s => s.State == ReplicaState.Failed);
        replica.IsReady.Should().BeFalse();

        // Updates without the state that they lead on from are of no use.
        var first = await trainer.Transport.ReceiveAsync(trainer.States.RunId, 0);
        source.Answer(() => new UpdateBatch { Messages = first.Messages, NewestSequence = 1 });
        await following.UntilAsync(s => s.State == ReplicaState.Resyncing && s.Reason!.Contains("no snapshot"));
        replica.IsReady.Should().BeFalse();
        source.Answer(() => new UpdateBatch { Snapshot = trainer.States.Newest, NewestSequence = 1 });
        await following.UntilAsync(trainer);
        trainer.ShouldBeAt(replica);
    }
}
