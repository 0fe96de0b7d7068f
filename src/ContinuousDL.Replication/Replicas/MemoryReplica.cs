using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Replicas;

/// <summary>
/// A replica over plain arrays, for processes without a deep-learning runtime: relays, processes that keep a state at hand for
/// others, servers that compute with the values themselves.
/// </summary>
/// <example>
/// <code>
/// using var replica = new MemoryReplica();
/// using var follower = new ReplicaFollower(replica, new DirectoryUpdateSource("updates"));
/// var following = follower.RunAsync(stopping.Token);
/// await replica.WaitUntilReadyAsync(stopping.Token);
/// using var lease = replica.Acquire();
/// ReadOnlySpan&lt;float&gt; weights = lease.Model.Values&lt;float&gt;("conv1.weight");
/// </code>
/// </example>
/// <inheritdoc cref="Replica{TModel}" path="/remarks"/>
public sealed class MemoryReplica : Replica<ModelArrays>
{
    /// <summary>Makes a replica without a state, of a model that is known when the first snapshot comes.</summary>
    public MemoryReplica()
    {
    }

    /// <summary>Makes a replica that starts from a snapshot.</summary>
    /// <param name="snapshot">The state to start from.</param>
    public MemoryReplica(ModelSnapshot snapshot) => Start(snapshot);

    /// <inheritdoc/>
    protected override (ReplicaCopy<ModelArrays> First, ReplicaCopy<ModelArrays> Second) CreateCopies(ModelLayout layout) =>
        (new Copy(new ModelArrays(layout)), new Copy(new ModelArrays(layout)));

    private sealed class Copy(ModelArrays arrays) : ReplicaCopy<ModelArrays>(arrays, arrays)
    {
        public override void Dispose()
        {
        }
    }
}
