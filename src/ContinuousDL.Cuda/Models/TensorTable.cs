using System.Runtime.CompilerServices;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.Vectors;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Models;

/// <summary>Where some of a model's tensors are on a device: the memory around them, and the table that kernels look coordinates up in.</summary>
/// <remarks>Nothing is taken before <see cref="Refresh"/>. Not thread-safe.</remarks>
internal sealed class TensorTable : IDisposable
{
    private readonly IKernelQueue queue;
    private readonly Row[] rows;
    private readonly nint[] addresses;
    private HostMemory? host;
    private Tensor? table;

    private TensorTable(IKernelQueue queue, Row[] rows)
    {
        (this.queue, this.rows) = (queue, rows);
        addresses = new nint[rows.Length];
    }

    /// <summary>The number of tensors, those that are empty left out.</summary>
    public int Count => rows.Length;

    /// <summary>The memory from the first of the tensors to the end of the last; valid since <see cref="Refresh"/>.</summary>
    public KernelArgument Memory { get; private set; }

    /// <summary>The table, on the device; valid since <see cref="Refresh"/>.</summary>
    public KernelArgument Tensors { get; private set; }

    /// <summary>Prepares a table.</summary>
    /// <param name="queue">The device's queue. Stays the caller's.</param>
    /// <param name="rows">The tensors, ascending by their first coordinate. They stay their owner's.</param>
    /// <param name="problem">Why there is none.</param>
    /// <returns>The table, which is the caller's; null where kernels can't address the tensors.</returns>
    public static TensorTable? TryMake(IKernelQueue queue, IEnumerable<Row> rows, out string? problem)
    {
        Row[] all = [.. rows];
        Row[] used = [.. all.Where(r => r.Slot.Entry.Length > 0)];
        problem = all.Select(r => (r.Slot.Tensor.device_type, r.Slot.Tensor.device_index)).Distinct().Count() > 1 ? "the tensors are on several devices" : null;
        foreach (var (slot, _, _) in used)
        {
            if (!slot.Tensor.is_contiguous()) problem = $"the tensor '{slot.Entry.Name}' is not contiguous";
            else if (DeviceMemory.AddressOf(slot.Tensor) % slot.Entry.ElementSize != 0) problem = $"the tensor '{slot.Entry.Name}' is not aligned";
            if (problem is not null) return null;
        }

        return new TensorTable(queue, used);
    }

    /// <summary>Prepares a table of parameters, by their coordinates in a vector.</summary>
    /// <param name="queue">The device's queue. Stays the caller's.</param>
    /// <param name="layout">The tensors of the vector.</param>
    /// <param name="parameters">The parameters, as many. They stay their owner's.</param>
    /// <param name="precision">What sums in float32 parameters are rounded to.</param>
    /// <param name="problem">Why there is none.</param>
    /// <returns>The table, which is the caller's; null where kernels can't address the parameters.</returns>
    public static TensorTable? TryMake(
        IKernelQueue queue, VectorLayout layout, IEnumerable<TensorSlot> parameters, DeployedValuePrecision precision, out string? problem) =>
        TryMake(queue, parameters.Select((slot, t) => new Row(slot, layout.Offsets[t], NumberFormat.Of(slot.Entry.DType, precision))), out problem);

    /// <summary>Makes sure that the table is of where the tensors are now: a module may have given one other memory. To be called before the table is used.</summary>
    /// <exception cref="ObjectDisposedException">A tensor is disposed.</exception>
    /// <exception cref="ArgumentException">A tensor is not contiguous any more.</exception>
    public void Refresh()
    {
        var moved = table is null;
        for (var i = 0; i < rows.Length; i++)
        {
            rows[i].Slot.ThrowIfDisposed();
            moved |= DeviceMemory.PlaceOf(rows[i].Slot.Tensor) != addresses[i];
        }

        if (moved && rows.Length > 0) Fill();
    }

    /// <summary>Frees the memory of the table.</summary>
    public void Dispose()
    {
        table?.Dispose();
        host?.Dispose();
    }

    private void Fill()
    {
        var size = Unsafe.SizeOf<TensorPlace>();
        if (table is null)
        {
            using var guard = no_grad();
            host = queue.AllocateHost(size * rows.Length);
            table = empty(size * rows.Length, dtype: ScalarType.Byte, device: rows[0].Slot.Tensor.device).DetachFromDisposeScope();
        }
        else
        {
            // The table before may still be on its way.
            queue.Synchronize();
        }

        for (var i = 0; i < rows.Length; i++) addresses[i] = DeviceMemory.AddressOf(rows[i].Slot.Tensor);

        // A multiple of 8 is a whole number of elements away from every tensor.
        var start = addresses.Min() / 8 * 8;
        var end = start;
        var places = host!.Part<TensorPlace>(0, rows.Length);
        for (var i = 0; i < rows.Length; i++)
        {
            var (entry, first, format) = (rows[i].Slot.Entry, rows[i].Start, rows[i].Format);
            if (addresses[i] % entry.ElementSize != 0) throw new InvalidOperationException($"The tensor '{entry.Name}' is not aligned any more.");
            places[i] = new TensorPlace { First = (addresses[i] - start) / entry.ElementSize, Start = first, Offset = entry.Offset, Size = entry.ElementSize, Format = format };
            end = Math.Max(end, addresses[i] + (nint)((long)entry.Length * entry.ElementSize));
        }

        queue.CopyToDevice(DeviceMemory.AddressOf(table), host.Address, host.Length);
        Memory = KernelArgument.View(start, end - start);
        Tensors = KernelArgument.View(DeviceMemory.AddressOf(table), rows.Length);
    }

    /// <summary>A tensor.</summary>
    /// <param name="Slot">The tensor itself.</param>
    /// <param name="Start">The first coordinate that it is looked up by.</param>
    /// <param name="Format">How sums in it are rounded, a <see cref="NumberFormat"/>; where something is added to it.</param>
    public readonly record struct Row(TensorSlot Slot, int Start, int Format = NumberFormat.Single);
}
