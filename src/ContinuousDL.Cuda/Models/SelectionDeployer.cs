using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Deployment;
using ContinuousDL.Failures;
using ContinuousDL.Parameters;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Models;

/// <summary>
/// Makes a selection from the residual part of the deployed model where both are: the selected values never leave the device
/// before they are added, and the host waits once, for what changed.
/// </summary>
/// <remarks>
/// The result is that of <see cref="DeployedModel.Add"/>, bit for bit, the residual's included. Memory on the device, and as much in
/// main memory: 8 bytes for each coordinate of a selection, 16 where a parameter is float64. Not thread-safe.
/// </remarks>
internal sealed class SelectionDeployer : IDisposable
{
    private readonly IKernelQueue queue;
    private readonly DeployedModel model;
    private readonly TensorTable table;
    private readonly int width;
    private HostMemory? host;
    private Tensor? block;
    private int capacity;

    private SelectionDeployer(IKernelQueue queue, DeployedModel model, TensorTable table, int width)
    {
        (this.queue, this.model, this.table, this.width) = (queue, model, table, width);
    }

    /// <summary>Prepares for a model.</summary>
    /// <param name="queue">The queue of the parameters' device. Stays the caller's.</param>
    /// <param name="model">The deployed model. Stays the caller's.</param>
    /// <param name="problem">Why there is nothing.</param>
    /// <returns>What deploys, which is the caller's; null where kernels can't address the deployed parameters.</returns>
    public static SelectionDeployer? TryMake(IKernelQueue queue, DeployedModel model, out string? problem)
    {
        TensorSlot[] slots = [.. Enumerable.Range(0, model.Vector.Layout.TensorCount).Select(model.ParameterSlot)];
        return TensorTable.TryMake(queue, model.Vector.Layout, slots, model.Precision, out problem) is { } table
            ? new SelectionDeployer(queue, model, table, slots.Max(s => s.Entry.ElementSize) > sizeof(uint) ? sizeof(ulong) : sizeof(uint))
            : null;
    }

    /// <summary>Selects, adds what is selected to the deployed parameters, takes what was really added off the residual, and waits for what changed.</summary>
    /// <param name="selector">The selector, everything accumulated.</param>
    /// <param name="k">How many it selects.</param>
    /// <exception cref="NonFiniteException">Something that was selected is not finite, or a sum is not. The deployed parameters are as they were.</exception>
    public void Deploy(DeviceSelector selector, int k)
    {
        if (k != capacity) Resize(k);
        table.Refresh();
        selector.Enqueue(release: false);
        var (address, bytes) = (DeviceMemory.AddressOf(block!), (nint)width * k);

        // Main memory has the 0 that the sum begins with before the place for the results, so that nothing ever changes it.
        queue.CopyToDevice(address, host!.Address, sizeof(ulong));
        queue.Launch(
            nameof(ModelKernels.AddSelected),
            queue.GroupsFor(k),
            [
                table.Memory,
                table.Tensors,
                selector.ResidualView,
                selector.StateView,
                selector.SelectedView,
                KernelArgument.View(address + sizeof(ulong), bytes),
                KernelArgument.View(address + sizeof(ulong) + bytes, bytes),
                KernelArgument.View(address, 1),
                width,
            ]);
        queue.CopyToHost(host.Address + sizeof(ulong), address, sizeof(ulong) + (2 * bytes));
        selector.Complete();
        if (!selector.IsFinite) throw model.NotFinite(selector.FindNonFinite());
        var (used, before) = (width * selector.Count, 2 * sizeof(ulong));
        model.Record(selector.Indices, host.Part<byte>(before, used), host.Part<byte>(before + bytes, used), width, host.Part<ulong>(sizeof(ulong), 1)[0]);
    }

    /// <summary>Frees the memory.</summary>
    public void Dispose()
    {
        block?.Dispose();
        host?.Dispose();
        table.Dispose();
    }

    private void Resize(int k)
    {
        using var guard = no_grad();
        capacity = k;
        block?.Dispose();
        host?.Dispose();
        var results = 2L * width * k;
        block = empty(sizeof(ulong) + results, dtype: ScalarType.Byte, device: model.Parameter(0).device).DetachFromDisposeScope();
        host = queue.AllocateHost((2 * sizeof(ulong)) + results);
        host.Part<ulong>(0, 1)[0] = 0;
    }
}
