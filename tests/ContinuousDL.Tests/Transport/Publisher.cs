using ContinuousDL.Replicas;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.UpdateLogs;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Transport;

/// <summary>A trainer that publishes to a transport.</summary>
internal sealed class Publisher : IDisposable
{
    private readonly InMemoryUpdateTransport? own;

    public Publisher(int seed = 1, int capacity = 1024, IUpdateTransport? transport = null, UpdateCodec? codec = null)
    {
        using var model = NewModel();
        States = new PublishedStates(seed, ModelLayout.Of(model));
        Transport = transport ?? (own = new InMemoryUpdateTransport(capacity, codec));
        Transport.PublishAsync(States.Newest).AsTask().Wait();
    }

    /// <summary>A replica of no run in particular.</summary>
    public static ModelReplica<Sequential> NewReplica()
    {
        using var model = NewModel();
        return new ModelReplica<Sequential>(NewModel, ModelSnapshot.Of(model));
    }

    /// <summary>Large enough for updates to be smaller than a snapshot, also several of them.</summary>
    public static Sequential NewModel() => nn.Sequential(("hidden", nn.Linear(32, 64)), ("output", nn.Linear(64, 16)));

    public PublishedStates States { get; }

    public IUpdateTransport Transport { get; }

    public void Publish(int count)
    {
        for (var i = 0; i < count; i++)
        {
            using var update = States.Next();
            Transport.PublishAsync(update).AsTask().Wait();
        }
    }

    public void ShouldBeAt(ModelReplica<Sequential> replica)
    {
        (replica.RunId, replica.Sequence, replica.Digest).Should().Be((States.RunId, States.Newest.Sequence, States.Newest.StateDigest));
        replica.Verify().Should().BeTrue();
    }

    public void Dispose() => own?.Dispose();
}
