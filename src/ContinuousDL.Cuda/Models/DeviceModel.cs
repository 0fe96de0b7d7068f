using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Cuda.Models;

/// <summary>A model on a CUDA device: an update crosses to it once, and what comes back is the 64 bits of its digest.</summary>
/// <remarks>
/// The host waits for digests and for values that it reads. Writes and copies stay in the queue when a method returns: they come
/// after what torch was asked for before, such as predictions with the old values, and before what it is asked for next, such as
/// predictions with the new ones, since all are in one stream. What fails on the device shows at the next wait.
/// </remarks>
internal sealed class DeviceModel : ITensorAccess
{
    private readonly ModelTensors host;
    private readonly ModelLayout layout;
    private readonly TensorTable table;
    private readonly DeviceUploads uploads;

    private DeviceModel(ModelTensors tensors, TensorTable table, DeviceUploads uploads)
    {
        (host, layout, this.table, this.uploads) = (tensors, tensors.Layout, table, uploads);
    }

    /// <inheritdoc/>
    public ModelLayout Layout => layout;

    private IKernelQueue Queue => uploads.Queue;

    /// <summary>Makes the access to a model.</summary>
    /// <param name="queue">The device's queue. Stays the caller's.</param>
    /// <param name="tensors">The model's tensors. They stay their owner's.</param>
    /// <param name="twin">The access to another copy of the model that gets the same updates, if there is one.</param>
    /// <param name="problem">Why there is none.</param>
    /// <returns>The access, which is the caller's; null where kernels can't address the tensors.</returns>
    public static DeviceModel? TryMake(IKernelQueue queue, ModelTensors tensors, ITensorAccess? twin, out string? problem)
    {
        if (TensorTable.TryMake(queue, tensors.Slots.Select(s => new TensorTable.Row(s, s.Entry.Offset)), out problem) is not { } table) return null;
        var shared = twin is DeviceModel other && ReferenceEquals(other.Queue, queue) && other.layout.Fingerprint == tensors.Layout.Fingerprint ? other.uploads : null;
        return new DeviceModel(tensors, table, shared ?? new DeviceUploads(queue, tensors.Slots[0].Tensor.device, tensors.Layout));
    }

    /// <inheritdoc/>
    public ulong ComputeDigest()
    {
        lock (uploads.Gate)
        {
            table.Refresh();
            if (table.Count == 0) return 0;
            var sum = uploads.BeginSum();
            Queue.Launch(nameof(ModelKernels.SumDigest), Queue.GroupsFor(layout.Count), [table.Memory, table.Tensors, sum, layout.Count]);
            return uploads.EndSum();
        }
    }

    /// <inheritdoc/>
    public void Read(ReadOnlySpan<int> coordinates, Span<byte> values)
    {
        if (coordinates.IsEmpty) return;
        lock (uploads.Gate)
        {
            table.Refresh();
            var staged = uploads.Stage(coordinates);
            Queue.Launch(
                nameof(ModelKernels.ReadModel),
                Queue.GroupsFor(coordinates.Length),
                [table.Memory, table.Tensors, staged.CoordinateView, staged.SectionView, staged.ValueView]);
            staged.FetchValues();
            uploads.Wait();
            staged.CopyValuesTo(values);
        }
    }

    /// <inheritdoc/>
    public ulong DigestChange(ModelUpdate update)
    {
        if (update.Count == 0) return 0;
        lock (uploads.Gate)
        {
            table.Refresh();
            var staged = uploads.Stage(update);
            Queue.Launch(
                nameof(ModelKernels.DigestChange),
                Queue.GroupsFor(update.Count),
                [table.Memory, table.Tensors, staged.CoordinateView, staged.SectionView, staged.ValueView, staged.SumView]);
            staged.FetchSum();
            uploads.Wait();
            return staged.Sum;
        }
    }

    /// <inheritdoc/>
    public void Write(ModelUpdate update)
    {
        if (update.IsWhole)
        {
            ((ITensorAccess)host).Write(update);
            return;
        }

        if (update.Count == 0) return;
        lock (uploads.Gate)
        {
            table.Refresh();
            var staged = uploads.Find(update);
            Queue.Launch(
                nameof(ModelKernels.WriteModel),
                Queue.GroupsFor(update.Count),
                [table.Memory, table.Tensors, staged.CoordinateView, staged.SectionView, staged.ValueView]);
            staged.Forget();
        }
    }

    /// <inheritdoc/>
    public void CatchUp(ModelUpdate update, ITensorAccess source)
    {
        if (update.Count == 0) return;
        if (source is not DeviceModel other || !ReferenceEquals(other.uploads, uploads))
        {
            Write(update);
            return;
        }

        lock (uploads.Gate)
        {
            table.Refresh();
            other.table.Refresh();
            Queue.Launch(
                nameof(ModelKernels.CopyModel),
                Queue.GroupsFor(update.Count),
                [table.Memory, table.Tensors, other.table.Memory, other.table.Tensors, uploads.Find(update.Coordinates).CoordinateView]);
        }
    }

    /// <inheritdoc/>
    public void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values) => host.Write(coordinates, values);

    /// <inheritdoc/>
    public void ReadRange(int tensor, int start, Span<byte> values) => host.ReadRange(tensor, start, values);

    /// <inheritdoc/>
    public void WriteRange(int tensor, int start, ReadOnlySpan<byte> values) => host.WriteRange(tensor, start, values);

    /// <inheritdoc/>
    public void CopyFrom(ITensorAccess source) => host.CopyFrom(source is DeviceModel other ? other.host : source);

    /// <summary>Frees what this and its twin have taken on the device.</summary>
    public void Dispose()
    {
        uploads.Dispose();
        table.Dispose();
    }
}
