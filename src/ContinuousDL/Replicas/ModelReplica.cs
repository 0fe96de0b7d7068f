using ContinuousDL.Parameters;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Updates;
using static TorchSharp.torch;

namespace ContinuousDL.Replicas;

/// <summary>
/// A serving model that follows a trainer: it answers from any number of threads while updates are applied to it, every answer
/// comes from exactly one sequence, and an update that would not lead to the trainer's exact state is refused.
/// </summary>
/// <remarks>
/// It holds two copies of the model, one that answers and one that the next update is applied to while nobody uses it, upon which
/// they change places; and the last update, which the other copy still lacks. So predictions never wait for an update.
/// <c>Apply</c> waits for predictions that still use the copy it needs, which are those that began before the
/// last update. One that is made without a state answers nothing until it has one, see <see cref="Replica{TModel}.IsReady"/>. Thread-safe.
/// <para>
/// Its parameters and buffers are the trainer's, bit for bit. Its answers are as reproducible as libtorch's operations: they may
/// differ in their last bits between processors and numbers of threads, and have been seen to do so from call to call with an
/// <c>InstanceNorm</c> that has running statistics.
/// </para>
/// <para>
/// A prediction changes nothing. Some modules write to their own tensors in eval mode, too: an embedding with a <c>max_norm</c>,
/// instance normalisation with running statistics, a counter. Their writes are put back when the lease ends, and leases
/// are given out one at a time then, so that no prediction sees half of what another one writes. Embeddings and instance
/// normalisation are known from the start, others once they have been seen to do so. A first prediction takes a copy of the model
/// to be able to put back anything; later ones compare buffers, and ask libtorch whether it has written to a parameter.
/// </para>
/// </remarks>
/// <typeparam name="TModule">The type of the module.</typeparam>
public sealed class ModelReplica<TModule> : Replica<TModule>
    where TModule : nn.Module
{
    /// <summary>Makes a replica without a state: it answers only when it has got one, by a snapshot, which a <see cref="ReplicaFollower"/> gives it.</summary>
    /// <param name="create">Makes a module of the trainer's architecture; called twice. The replica owns the modules, and keeps them in eval mode. Their values are never used.</param>
    /// <param name="tensorAccess">Works on modules on a device. Default: by way of main memory.</param>
    public ModelReplica(Func<TModule> create, ITensorAccessProvider? tensorAccess = null)
        : this(CreateBoth(create, tensorAccess))
    {
    }

    /// <summary>Makes a replica that starts from a snapshot.</summary>
    /// <param name="create">Makes a module of the trainer's architecture; called twice. The replica owns the modules, and keeps them in eval mode.</param>
    /// <param name="snapshot">The state to start from.</param>
    /// <param name="tensorAccess">Works on modules on a device. Default: by way of main memory.</param>
    /// <exception cref="ModelMismatchException">The modules' architecture is another than the snapshot's; the message names the first difference.</exception>
    public ModelReplica(Func<TModule> create, ModelSnapshot snapshot, ITensorAccessProvider? tensorAccess = null)
        : this(create, tensorAccess)
    {
        try
        {
            Start(snapshot);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    private ModelReplica((ModuleCopy<TModule> First, ModuleCopy<TModule> Second) copies)
        : base(copies.First, copies.Second)
    {
    }

    private static (ModuleCopy<TModule> First, ModuleCopy<TModule> Second) CreateBoth(Func<TModule> create, ITensorAccessProvider? tensorAccess)
    {
        ArgumentNullException.ThrowIfNull(create);
        var first = create() ?? throw new ArgumentException("The function returned null.", nameof(create));
        var second = create() ?? throw new ArgumentException("The function returned null.", nameof(create));
        if (ReferenceEquals(first, second)) throw new ArgumentException("The function must make a new module at every call.", nameof(create));
        try
        {
            var copy = new ModuleCopy<TModule>(first, tensorAccess);
            return (copy, new ModuleCopy<TModule>(second, tensorAccess, copy));
        }
        catch
        {
            first.Dispose();
            second.Dispose();
            throw;
        }
    }
}
