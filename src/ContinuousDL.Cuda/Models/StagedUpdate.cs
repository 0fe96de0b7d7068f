using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Models;

/// <summary>
/// Coordinates of a model and their values in one block of main memory and one on the device, which cross with one copy: a sum,
/// where each tensor's values start, the coordinates, and the values in sections that start at multiples of 8 bytes.
/// </summary>
/// <remarks>The blocks grow as needed and are used again. Not thread-safe.</remarks>
internal sealed class StagedUpdate : IDisposable
{
    private const int Alignment = 8;

    private readonly IKernelQueue queue;
    private readonly Device device;
    private readonly ModelLayout layout;
    private readonly int[] tables;
    private readonly int tableCount;
    private HostMemory? host;
    private Tensor? block;
    private nint address;
    private long valuesAt, end;

    /// <summary>Prepares for a model.</summary>
    /// <param name="queue">The device's queue. Stays the caller's.</param>
    /// <param name="device">The device.</param>
    /// <param name="layout">The model's layout.</param>
    public StagedUpdate(IKernelQueue queue, Device device, ModelLayout layout)
    {
        (this.queue, this.device, this.layout) = (queue, device, layout);
        tables = new int[layout.Entries.Count];
        for (var i = 0; i < tables.Length; i++)
        {
            tables[i] = tableCount;
            if (layout.Entries[i].Length > 0) tableCount++;
        }
    }

    /// <summary>The update whose coordinates and values these are; null where there is none.</summary>
    public ModelUpdate? Update { get; private set; }

    /// <summary>Whether the values that belong to the coordinates are not here, but may come.</summary>
    public bool AwaitsValues { get; private set; }

    /// <summary>The number of coordinates.</summary>
    public int Count { get; private set; }

    /// <summary>Whether the block in main memory is on its way to the device, and may not be written to.</summary>
    public bool IsUnderWay { get; set; }

    /// <summary>The coordinates.</summary>
    public ReadOnlySpan<int> Coordinates => Count == 0 ? [] : host!.Part<int>(CoordinatesAt, Count);

    /// <summary>The sum in main memory.</summary>
    public ulong Sum => host!.Part<ulong>(0, 1)[0];

    /// <summary>The sum on the device, 0 when it comes there.</summary>
    public KernelArgument SumView => KernelArgument.View(address, 1);

    /// <summary>Where each tensor's values start, on the device.</summary>
    public KernelArgument SectionView => KernelArgument.View(address + sizeof(ulong), tableCount);

    /// <summary>The coordinates on the device.</summary>
    public KernelArgument CoordinateView => KernelArgument.View(address + (nint)CoordinatesAt, Count);

    /// <summary>The values on the device.</summary>
    public KernelArgument ValueView => KernelArgument.View(address + (nint)valuesAt, end - valuesAt);

    private long CoordinatesAt => sizeof(ulong) * (1L + tableCount);

    /// <summary>Takes coordinates, whose values may be read from the device or follow, and puts their copy into the queue. The block must not be under way.</summary>
    /// <param name="coordinates">The coordinates, ascending.</param>
    public void Take(ReadOnlySpan<int> coordinates)
    {
        Lay(coordinates);
        (Update, AwaitsValues) = (null, true);
        Upload(0, valuesAt);
    }

    /// <summary>Takes an update, and puts its copy into the queue; only that of its values where the coordinates are there. The block must not be under way.</summary>
    /// <param name="update">The update, which lists its coordinates.</param>
    public void Take(ModelUpdate update)
    {
        var start = AwaitsValues && Coordinates.SequenceEqual(update.Coordinates) ? valuesAt : 0;
        if (start == 0) Lay(update.Coordinates);
        var place = valuesAt;
        var sections = update.GetSections();
        while (sections.MoveNext())
        {
            sections.Values.CopyTo(host!.Part<byte>(place, sections.Values.Length));
            place += Padded(sections.Values.Length);
        }

        (Update, AwaitsValues) = (update, false);
        Upload(start, end);
    }

    /// <summary>Puts the copy of the sum to main memory into the queue.</summary>
    public void FetchSum() => queue.CopyToHost(host!.Address, address, sizeof(ulong));

    /// <summary>Puts the copy of the values to main memory into the queue.</summary>
    public void FetchValues() => queue.CopyToHost(host!.Address + (nint)valuesAt, address + (nint)valuesAt, end - valuesAt);

    /// <summary>Gives the values that were fetched.</summary>
    /// <param name="values">Receives them, packed.</param>
    public void CopyValuesTo(Span<byte> values)
    {
        var place = valuesAt;
        var sections = new CoordinateSections(Coordinates, layout.Tensors);
        while (sections.MoveNext())
        {
            host!.Part<byte>(place, sections.ByteCount).CopyTo(values[(int)sections.ByteStart..]);
            place += Padded(sections.ByteCount);
        }
    }

    /// <summary>Lets go of the update; its coordinates stay.</summary>
    public void Forget() => Update = null;

    /// <summary>Frees the memory.</summary>
    public void Dispose()
    {
        (Count, Update, AwaitsValues) = (0, null, false);
        Free();
    }

    private static long Padded(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    /// <summary>Writes the coordinates, and where everything has its place.</summary>
    private void Lay(ReadOnlySpan<int> coordinates)
    {
        Count = coordinates.Length;
        valuesAt = Padded(CoordinatesAt + (sizeof(int) * (long)Count));
        end = valuesAt;
        var sections = new CoordinateSections(coordinates, layout.Tensors);
        while (sections.MoveNext()) end += Padded(sections.ByteCount);

        Grow();
        host!.Part<ulong>(0, 1)[0] = 0;
        var starts = host.Part<long>(sizeof(ulong), tableCount);
        starts.Clear();
        var (place, first) = (0L, 0);
        sections = new CoordinateSections(coordinates, layout.Tensors);
        while (sections.MoveNext())
        {
            starts[tables[sections.Index]] = (place / sections.Entry.ElementSize) - first;
            first += sections.Coordinates.Length;
            place += Padded(sections.ByteCount);
        }

        coordinates.CopyTo(host.Part<int>(CoordinatesAt, Count));
    }

    private void Grow()
    {
        if (host is not null && host.Length >= end) return;
        Free();
        var capacity = Padded(end + (end / 4));
        host = queue.AllocateHost(capacity);
        using var guard = no_grad();
        block = empty(capacity, dtype: ScalarType.Byte, device: device).DetachFromDisposeScope();
        address = DeviceMemory.AddressOf(block);
    }

    private void Free()
    {
        block?.Dispose();
        host?.Dispose();
    }

    private void Upload(long from, long to)
    {
        queue.CopyToDevice(address + (nint)from, host!.Address + (nint)from, to - from);
        IsUnderWay = true;
    }
}
