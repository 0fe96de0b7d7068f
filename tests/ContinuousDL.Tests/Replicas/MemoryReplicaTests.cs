using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.UpdateLogs;

namespace ContinuousDL.Tests.Replicas;

/// <summary>A replica over plain arrays has each published state bit for bit, and its readers see one state at a time.</summary>
public class MemoryReplicaTests
{
    private static readonly UpdateCodec Codec = new();

    [Test]
    public void Each_state_is_the_published_one_by_updates_and_by_messages([Values] bool messages)
    {
        var states = new PublishedStates(1);
        using var replica = new MemoryReplica(states.Newest);
        for (var s = 1; s <= 200; s++)
        {
            using var update = states.Next(1 + (s % 40));
            (messages ? replica.Apply(Codec.Encode(update), Codec) : replica.Apply(update)).Should().BeTrue();
            (messages ? replica.Apply(Codec.Encode(update), Codec) : replica.Apply(update)).Should().BeFalse("it has that state already");
            PublishedStates.ShouldBeTheSame(replica.CreateSnapshot(), states.Newest);
            replica.Verify().Should().BeTrue();
        }
    }

    [Test]
    public void Without_a_state_nothing_is_answered_until_the_first_snapshot()
    {
        var states = new PublishedStates(2);
        using var replica = new MemoryReplica();
        replica.IsReady.Should().BeFalse();
        (replica.RunId, replica.Sequence, replica.Digest).Should().Be((Guid.Empty, 0L, 0ul));
        replica.Invoking(r => r.Acquire()).Should().Throw<ReplicaNotReadyException>();
        replica.Invoking(r => r.Layout).Should().Throw<ReplicaNotReadyException>();
        replica.Invoking(r => r.CreateSnapshot()).Should().Throw<ReplicaNotReadyException>();
        using var update = states.Next();
        replica.Invoking(r => r.Apply(update)).Should().Throw<ReplicaNotReadyException>();
        var waiting = replica.WaitUntilReadyAsync(CancellationToken.None);
        waiting.IsCompleted.Should().BeFalse();

        replica.Restore(states.Newest);

        waiting.Wait(Patience.Limit).Should().BeTrue();
        PublishedStates.ShouldBeTheSame(replica.CreateSnapshot(), states.Newest);
        replica.Layout.Fingerprint.Should().Be(states.Newest.Layout.Fingerprint);
    }

    [Test]
    public void Readers_see_exactly_one_state_while_updates_are_applied()
    {
        const int updates = 300;
        var states = new PublishedStates(3);
        var made = Enumerable.Range(0, updates).Select(_ => states.Next(60)).ToList();
        using var replica = new MemoryReplica(states.States[0]);
        using var done = new CancellationTokenSource();
        using var started = new CountdownEvent(2);
        var readers = Enumerable.Range(0, 2).Select(_ => Task.Run(() =>
        {
            for (var read = 0; !done.IsCancellationRequested; read++)
            {
                using var lease = replica.Acquire();
                var expected = states.States[lease.Sequence];
                for (var t = 0; t < expected.Layout.Entries.Count; t++)
                {
                    var values = new byte[expected.Layout.Entries[t].SizeInBytes];
                    lease.Model.ReadRange(t, 0, values);
                    if (!values.AsSpan().SequenceEqual(expected.Values(t))) throw new InvalidOperationException($"Tensor {t} is not of sequence {lease.Sequence}.");
                }

                if (read == 0) started.Signal();
            }
        })).ToArray();
        started.Wait(Patience.Limit).Should().BeTrue();
        foreach (var update in made)
        {
            replica.Apply(update).Should().BeTrue();
            update.Dispose();
        }

        done.Cancel();
        Task.WaitAll(readers, Patience.Limit).Should().BeTrue();
        replica.Sequence.Should().Be(updates);
    }

    [Test]
    public void A_wrong_update_or_snapshot_is_refused_and_changes_nothing()
    {
        var states = new PublishedStates(4);
        using var replica = new MemoryReplica(states.Newest);
        using var skipped = states.Next();
        using var second = states.Next();
        replica.Invoking(r => r.Apply(second)).Should().Throw<UpdateGapException>();
        var other = new PublishedStates(5, ModelLayout.Of([new("other", CoordinateKind.Parameter, DType.Float32, [5])]));
        using var foreign = other.Next();
        replica.Invoking(r => r.Apply(foreign)).Should().Throw<ModelMismatchException>();
        replica.Invoking(r => r.Restore(other.Newest)).Should().Throw<ModelMismatchException>();
        PublishedStates.ShouldBeTheSame(replica.CreateSnapshot(), states.States[0]);
        replica.Apply(skipped).Should().BeTrue();
        replica.Apply(second).Should().BeTrue();
        PublishedStates.ShouldBeTheSame(replica.CreateSnapshot(), states.Newest);
    }

    [Test]
    public void Values_are_had_by_name_in_a_type_of_their_size()
    {
        var states = new PublishedStates(6);
        using var replica = new MemoryReplica(states.Newest);
        using var lease = replica.Acquire();
        lease.Model.Values<uint>("weight").Length.Should().Be(600);
        lease.Model.Values<float>("empty").IsEmpty.Should().BeTrue();
        System.Runtime.InteropServices.MemoryMarshal.AsBytes(lease.Model.Values<float>("weight")).SequenceEqual(states.Newest.Values(0)).Should().BeTrue();
        lease.Model.Values<long>("count").Length.Should().Be(1);
        lease.Invoking(l => l.Model.Values<double>("weight").Length).Should().Throw<ArgumentException>().WithMessage("*'weight'*4 bytes*Double 8*");
        lease.Invoking(l => l.Model.Values<float>("none").Length).Should().Throw<KeyNotFoundException>().WithMessage("*'none'*");
        lease.Invoking(l => l.Model.ReadRange(0, 599, new byte[8])).Should().Throw<ArgumentOutOfRangeException>().WithMessage("*'weight' has 600 elements*");
    }
}
