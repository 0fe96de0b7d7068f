using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.Diagnostics;
using ContinuousDL.Tests.Transport;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Deployment;

/// <summary>A prediction that never ends holds updates up, and nothing else: that is seen, can be cancelled, and ends with the replica.</summary>
public class HeldUpReplicaTests
{
    [Test]
    public async Task A_follower_that_is_held_up_says_so_and_how_far_it_is_behind()
    {
        var lags = new ConcurrentBag<long>();
        using var meters = new TestMeters();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Meter.Scope == meters && instrument.Name == "continuousdl.replica.lag") l.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((_, value, _, _) => lags.Add(value));
        listener.Start();
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        await using var following = new Following(replica, trainer.Transport, meters: meters);
        await following.UntilAsync(trainer);
        using (replica.Acquire())
        {
            // The first goes to the other copy, the second is held up.
            trainer.Publish(2);
            await following.UntilAsync(s => s is { State: ReplicaState.CatchingUp, Sequence: 1, Lag: 1 });
            following.Status.Reason.Should().Contain("prediction");
            trainer.Publish(5);
            await following.UntilAsync(s => s is { State: ReplicaState.CatchingUp, Sequence: 1, Lag: 6 });
            using var other = replica.Acquire();
            other.Sequence.Should().Be(1, "it goes on answering");
        }

        lags.Should().Contain(6);
        await following.UntilAsync(trainer);
        trainer.ShouldBeAt(replica);
    }

    [Test]
    public async Task A_snapshot_that_is_held_up_waits_too()
    {
        using var trainer = new Publisher();
        using var replica = Publisher.NewReplica();
        var lease = replica.Acquire();
        replica.Restore(trainer.States.Newest);
        using var other = new Publisher(seed: 2);
        await using var following = new Following(replica, other.Transport);
        await following.UntilAsync(s => s.State == ReplicaState.CatchingUp && s.Reason?.Contains("prediction") == true);
        replica.RunId.Should().Be(trainer.States.RunId);
        lease.Dispose();
        await following.UntilAsync(other);
        other.ShouldBeAt(replica);
    }

    [Test]
    public async Task Cancelling_ends_a_follower_that_is_held_up()
    {
        using var trainer = new Publisher();
        using var model = Publisher.NewModel();
        using var replica = new ModelReplica<Sequential>(Publisher.NewModel, ModelSnapshot.Of(model)) { DisposalTimeout = TimeSpan.Zero };
        await using (var following = new Following(replica, trainer.Transport))
        {
            await following.UntilAsync(trainer);
            _ = replica.Acquire();
            trainer.Publish(2);
            await following.UntilAsync(s => s.Reason?.Contains("prediction") == true);
        }

        replica.Verify().Should().BeTrue();
    }

    [Test]
    public void Cancelling_ends_what_waits_for_predictions_and_leaves_the_replica_as_it_was()
    {
        using var trainer = new Publisher();
        using var replica = new ModelReplica<Sequential>(Publisher.NewModel, trainer.States.Newest);
        using var first = trainer.States.Next();
        using var second = trainer.States.Next();
        var message = new UpdateCodec().Encode(second);
        using (replica.Acquire())
        {
            replica.Apply(first);
            using var stop = new CancellationTokenSource();
            Task[] held =
            [
                Task.Run(() => replica.Apply(second, stop.Token)), Task.Run(() => replica.Apply(message, new UpdateCodec(), stop.Token)),
                Task.Run(() => replica.Restore(trainer.States.Newest, stop.Token)),
            ];
            stop.Cancel();
            foreach (var task in held) task.Invoking(t => t.WaitAsync(Patience.Limit)).Should().ThrowAsync<OperationCanceledException>().Wait();
        }

        (replica.Sequence, replica.Verify()).Should().Be((1, true));
        replica.Apply(second).Should().BeTrue();
        replica.Verify().Should().BeTrue();
    }

    [Test]
    public async Task Dispose_ends_what_waits_and_leaves_a_held_copy_to_the_last_that_uses_it()
    {
        using var trainer = new Publisher();
        var made = new List<Sequential>();
        var replica = new ModelReplica<Sequential>(Make, trainer.States.Newest) { DisposalTimeout = TimeSpan.Zero };
        using var first = trainer.States.Next();
        using var second = trainer.States.Next();
        using var input = ones(1, 32);
        var lease = replica.Acquire();
        replica.Apply(first);
        using var later = replica.Acquire();
        var held = Task.Run(() => replica.Apply(second));
        replica.Dispose();
        await held.Invoking(t => t.WaitAsync(Patience.Limit)).Should().ThrowAsync<ObjectDisposedException>();
        replica.Invoking(r => r.Acquire()).Should().Throw<ObjectDisposedException>();
        using (no_grad())
        {
            using var output = lease.Model.call(input);
            output.shape.Should().Equal(1, 16);
        }

        var parameters = made[0].parameters().ToArray();
        parameters.Should().OnlyContain(p => !p.IsInvalid);
        lease.Dispose();
        lease.Dispose();
        parameters.Should().OnlyContain(p => p.IsInvalid, "the last lease on it has ended");
        made[1].parameters().Should().OnlyContain(p => !p.IsInvalid, "another lease holds it");

        Sequential Make()
        {
            made.Add(Publisher.NewModel());
            return made[^1];
        }
    }

    [Test]
    public void Dispose_waits_for_predictions_that_end_in_time()
    {
        using var trainer = new Publisher();
        var replica = new ModelReplica<Sequential>(Publisher.NewModel, trainer.States.Newest) { DisposalTimeout = Patience.Limit };
        var lease = replica.Acquire();
        var parameter = lease.Model.parameters().First();
        var disposing = Task.Run(replica.Dispose);
        SpinWait.SpinUntil(() => IsDisposed(replica), Patience.Limit).Should().BeTrue();
        disposing.IsCompleted.Should().BeFalse();
        lease.Dispose();
        disposing.Wait(Patience.Limit).Should().BeTrue();
        parameter.IsInvalid.Should().BeTrue();
    }

    [TestCase(-1)]
    [TestCase(100_000)]
    public void A_disposal_timeout_out_of_range_is_refused(double seconds)
    {
        var make = () => new ModelReplica<Sequential>(Publisher.NewModel) { DisposalTimeout = TimeSpan.FromSeconds(seconds) };
        make.Should().Throw<ArgumentOutOfRangeException>().WithParameterName("DisposalTimeout");
    }

    private static bool IsDisposed(ModelReplica<Sequential> replica)
    {
        try
        {
            replica.Acquire().Dispose();
            return false;
        }
        catch (ObjectDisposedException)
        {
            return true;
        }
    }
}
