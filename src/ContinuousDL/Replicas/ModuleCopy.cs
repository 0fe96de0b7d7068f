using ContinuousDL.Parameters;
using ContinuousDL.Replication.Replicas;
using static TorchSharp.torch;

namespace ContinuousDL.Replicas;

/// <summary>A module as one of a replica's two copies, in eval mode; what its forward pass writes to is noticed and put back.</summary>
/// <typeparam name="TModule">The type of the module.</typeparam>
internal sealed class ModuleCopy<TModule> : ReplicaCopy<TModule>
    where TModule : nn.Module
{
    private readonly StateGuard guard;

    /// <param name="module">The module. Disposed with the copy.</param>
    /// <param name="provider">Works on modules on a device, if there is one.</param>
    /// <param name="twin">The other copy, if it is there already.</param>
    public ModuleCopy(TModule module, ITensorAccessProvider? provider, ModuleCopy<TModule>? twin = null)
        : this(module, ModelTensors.Of(module), provider, twin)
    {
    }

    private ModuleCopy(TModule module, ModelTensors tensors, ITensorAccessProvider? provider, ModuleCopy<TModule>? twin)
        : base(module, provider?.TryCreate(tensors, twin?.Tensors) ?? tensors)
    {
        guard = new StateGuard([.. tensors.Slots, .. NonPersistentBuffers.Of(module, tensors.Slots)]);
        WritesToItself = SelfWritingModules.Any(module);
        module.eval();
    }

    /// <inheritdoc/>
    public override bool WritesToItself { get; }

    /// <inheritdoc/>
    public override void Watch(bool knowsWrites, ReplicaCopy<TModule> other)
    {
        guard.Learn(((ModuleCopy<TModule>)other).guard);
        guard.Settle();
        guard.Save(knowsWrites ? null : static _ => true);
    }

    /// <inheritdoc/>
    public override bool IsChanged() => guard.IsChanged();

    /// <inheritdoc/>
    public override string? PutBack()
    {
        guard.Look();
        guard.Restore();
        return guard.FirstNotRestored();
    }

    /// <inheritdoc/>
    public override void Trim() => guard.Trim();

    /// <inheritdoc/>
    public override void Dispose()
    {
        Model.Dispose();
        guard.Dispose();
    }
}
