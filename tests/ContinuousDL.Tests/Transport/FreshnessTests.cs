using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Wire;
using Microsoft.Extensions.Time.Testing;
using TorchSharp.Modules;

namespace ContinuousDL.Tests.Transport;

/// <summary>A follower notices when nothing shows any more that its state is the newest: by signed heartbeats, where it has a key.</summary>
public class FreshnessTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private FakeTimeProvider clock = null!;
    private UpdateSigning signing = null!;
    private UpdateCodec codec = null!;

    [SetUp]
    public void Make()
    {
        clock = new FakeTimeProvider();
        signing = UpdateSigning.HmacSha256(new byte[32]);
        codec = new UpdateCodec(new() { Signing = signing });
    }

    [TearDown]
    public void Remove() => signing.Dispose();

    [Test]
    public async Task A_source_that_says_for_ever_that_nothing_is_new_is_not_believed_for_ever()
    {
        using var trainer = new Publisher(codec: codec);
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = Follow(replica, source);
        source.Answer(() => Start(trainer));
        await UntilAsync(following, trainer);

        // The last one that was made, again and again, and in the end none.
        var old = Heartbeat(trainer);
        for (var seconds = 0; seconds < 140; seconds += 20)
        {
            clock.Advance(TimeSpan.FromSeconds(20));
            var answer = seconds < 100 ? UpdateBatch.Empty.WithHeartbeat(old) : UpdateBatch.Empty;
            source.Answer(() => answer);
            await source.DrainedAsync();
            await UntilAsync(following, _ => source.Asked.Length == 2 + (seconds / 20));
        }

        await UntilAsync(following, s => s.State == ReplicaState.Stale);
        following.Status.Reason.Should().Contain("heartbeat").And.Contain("have none");
        following.States.Should().Equal(ReplicaState.Current, ReplicaState.Stale);
        source.Answer(() => UpdateBatch.Empty.WithHeartbeat(Heartbeat(trainer)));
        await UntilAsync(following, trainer);
    }

    [Test]
    public async Task A_source_that_does_not_answer_at_all_is_noticed_while_it_is_waited_for([Values] bool signed)
    {
        using var trainer = new Publisher(codec: codec);
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = Follow(replica, source, signed ? codec : new UpdateCodec());
        source.Answer(() => Start(trainer));
        await UntilAsync(following, trainer);
        clock.Advance(Limit);
        await UntilAsync(following, s => s.State == ReplicaState.Stale);
        source.Answer(() => UpdateBatch.Empty.WithHeartbeat(Heartbeat(trainer)));
        await UntilAsync(following, trainer);
    }

    [Test]
    public async Task An_update_that_is_kept_back_is_missed()
    {
        using var trainer = new Publisher(codec: codec);
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = Follow(replica, source);
        source.Answer(() => Start(trainer));
        await UntilAsync(following, trainer);
        trainer.Publish(3);
        source.Answer(() => UpdateBatch.Empty.WithHeartbeat(Heartbeat(trainer)));
        await UntilAsync(following, s => s is { State: ReplicaState.CatchingUp, Lag: 3 });
        following.Status.Reason.Should().Contain("nothing that leads on");
    }

    [Test]
    public async Task A_run_that_no_heartbeat_names_is_not_gone_over_to()
    {
        using var trainer = new Publisher(codec: codec);
        using var other = new Publisher(seed: 2, codec: codec);
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = Follow(replica, source);
        source.Answer(() => Start(trainer));
        await UntilAsync(following, trainer);
        source.Answer(() => new UpdateBatch { Snapshot = codec.Sign(other.States.Newest), Heartbeat = Heartbeat(trainer) });
        await UntilAsync(following, s => s.Reason?.Contains("no heartbeat says") == true);
        trainer.ShouldBeAt(replica);
        clock.Advance(TimeSpan.FromSeconds(10));
        source.Answer(() => Start(other));
        await UntilAsync(following, other);
        other.ShouldBeAt(replica);
    }

    [Test]
    public async Task A_heartbeat_of_another_run_makes_it_ask_for_that_runs_state()
    {
        using var trainer = new Publisher(codec: codec);
        using var other = new Publisher(seed: 2, codec: codec);
        using var replica = Publisher.NewReplica();
        var source = new ScriptedSource();
        await using var following = Follow(replica, source);
        source.Answer(() => Start(trainer));
        await UntilAsync(following, trainer);
        source.Answer(() => UpdateBatch.Empty.WithHeartbeat(Heartbeat(other)));
        await UntilAsync(following, s => s.State == ReplicaState.Resyncing);
        source.Answer(() => Start(other));
        await UntilAsync(following, other);
        source.Asked[^1].RunId.Should().Be(Guid.Empty);
    }

    [Test]
    public async Task Heartbeats_come_over_http_with_and_without_updates()
    {
        using var trainer = new Publisher(codec: codec);
        var signer = Signer(trainer);
        await using var server = await UpdateServer.StartAsync(trainer.Transport, new() { Heartbeat = signer.Sign });
        using var client = new HttpClient();
        var source = new HttpUpdateSource(client, server.Address, new() { Wait = TimeSpan.Zero });
        foreach (var run in new[] { Guid.Empty, trainer.States.RunId })
        {
            var batch = await source.ReceiveAsync(run, 0);
            batch.IsEmpty.Should().Be(run != Guid.Empty);
            codec.ReadHeartbeat(batch.Heartbeat.Span).RunId.Should().Be(trainer.States.RunId);
        }
    }

    [Test]
    public async Task Heartbeats_from_elsewhere_go_with_each_answer_of_a_source()
    {
        using var trainer = new Publisher(codec: codec);
        var source = new HeartbeatSource(trainer.Transport, Signer(trainer).Sign);
        using var replica = Publisher.NewReplica();
        await using var following = Follow(replica, source);
        trainer.Publish(2);
        await UntilAsync(following, trainer);
        (await source.ReceiveAsync(Guid.Empty, 0)).Heartbeat.Length.Should().Be(88);
        (await new HeartbeatSource(trainer.Transport, () => null).ReceiveAsync(Guid.Empty, 0)).Heartbeat.IsEmpty.Should().BeTrue();
    }

    [Test]
    public void A_silence_out_of_range_is_refused()
    {
        using var replica = Publisher.NewReplica();
        var make = () => new ReplicaFollower(replica, new ScriptedSource(), new() { MaximumSilence = TimeSpan.Zero });
        make.Should().Throw<ArgumentException>().WithMessage("*MaximumSilence*");
    }

    private Following Follow(ModelReplica<Sequential> replica, IUpdateSource source, UpdateCodec? reader = null) =>
        new(replica, source, reader ?? codec, options: new() { RetryDelay = TimeSpan.FromMilliseconds(1), MaxRetryDelay = TimeSpan.FromMilliseconds(1), MaximumSilence = Limit }, clock: clock);

    /// <summary>Waits while time goes on a little.</summary>
    private Task UntilAsync(Following following, Func<ReplicaStatus, bool> condition) => following.UntilAsync(status =>
    {
        clock.Advance(TimeSpan.FromMilliseconds(1));
        return condition(status);
    });

    private Task UntilAsync(Following following, Publisher trainer) => UntilAsync(
        following, s => s.State == ReplicaState.Current && s.RunId == trainer.States.RunId && s.Sequence == trainer.States.Newest.Sequence);

    private HeartbeatSigner Signer(Publisher trainer) => new(codec, () => ((InMemoryUpdateTransport)trainer.Transport).Head, TimeSpan.FromSeconds(60), clock);

    private byte[] Heartbeat(Publisher trainer) => Signer(trainer).Sign()!;

    private UpdateBatch Start(Publisher trainer) => new() { Snapshot = codec.Sign(trainer.States.Newest), NewestSequence = trainer.States.Newest.Sequence, Heartbeat = Heartbeat(trainer) };
}
