using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Updates;
using static TorchSharp.torch;

namespace ContinuousDL.Replicas;

/// <summary>Predictions from replicas of models with one input and one output.</summary>
public static class ModelReplicaExtensions
{
    /// <summary>Predicts with the replica's current state, without gradients.</summary>
    /// <param name="replica">The replica.</param>
    /// <param name="input">The input of the model, usually <c>[N, ...]</c>. It stays the caller's.</param>
    /// <returns>The model's output, owned by the caller.</returns>
    /// <exception cref="ReplicaNotReadyException">The replica has no state yet, see <see cref="Replica{TModel}.IsReady"/>.</exception>
    /// <exception cref="ObjectDisposedException">The replica is disposed.</exception>
    public static Tensor Predict<TModule>(this ModelReplica<TModule> replica, Tensor input)
        where TModule : nn.Module<Tensor, Tensor>
    {
        ArgumentNullException.ThrowIfNull(replica);
        ArgumentNullException.ThrowIfNull(input);
        using var lease = replica.Acquire();
        using var guard = no_grad();
        return lease.Model.call(input);
    }
}
