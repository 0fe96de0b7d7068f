using ContinuousDL.Compression;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>
/// Adds gradients to a residual on a device and selects exactly its k coordinates of largest magnitude: the set, the order
/// and the ties of <see cref="TopKCompressor"/> over the whole model.
/// </summary>
/// <remarks>
/// <para>
/// A step: <see cref="Begin"/>; <see cref="Accumulate"/> for every tensor, in any order; <see cref="Select"/>. The host waits
/// once, for the result. Sums are those of IEEE float32, bit for bit the CPU's; only the bits of a NaN that an addition makes are
/// the device's own, where a CPU passes on those of an operand.
/// </para>
/// <para>
/// The candidates' floor carries over from step to step, as that of the CPU's selection does. Memory on the device: 8 bytes for
/// each of about 4k candidates and 20 for each tile of 4,096 coordinates, beside the residual, which is the caller's. Not thread-safe.
/// </para>
/// </remarks>
internal sealed class DeviceSelector : IDisposable
{
    /// <summary>Three digits make up the 31 bits of a magnitude, the highest first.</summary>
    private static readonly (int Shift, int Bits)[] Digits = [(20, 11), (10, 10), (0, 10)];

    /// <summary>How far below the last threshold the next floor starts, in units of the last bit of a magnitude, and what it stays between. 2^23 is a factor of 2.</summary>
    private const int FirstMargin = 1 << 20, LeastMargin = 1 << 8, GreatestMargin = 1 << 25;

    private readonly IKernelQueue queue;
    private readonly Tensor residual;
    private readonly int[] offsets;
    private readonly int[] firstTiles;
    private readonly int n, tiles;
    private readonly Tensor state, histogram, coordinates, starts, counts, above, equal;
    private readonly HostMemory hostState;
    private Tensor? indices, candidates, selected, values;
    private HostMemory? hostIndices, hostValues;
    private int k, floor, margin = FirstMargin;

    /// <summary>Prepares for a vector.</summary>
    /// <param name="queue">The device's queue. Stays the caller's.</param>
    /// <param name="residual">The residual, float32 <c>[n]</c>, contiguous, on the queue's device. Stays the caller's, and where it is.</param>
    /// <param name="layout">The tensors of the vector.</param>
    /// <exception cref="ArgumentException">The residual is not the layout's.</exception>
    public DeviceSelector(IKernelQueue queue, Tensor residual, VectorLayout layout)
    {
        if (residual.numel() != layout.Length || residual.dtype != ScalarType.Float32)
        {
            throw new ArgumentException($"The residual is {residual.dtype} of {residual.numel()} elements; float32 of {layout.Length} is needed.", nameof(residual));
        }

        (this.queue, this.residual, n) = (queue, residual, layout.Length);
        offsets = [.. layout.Offsets];
        firstTiles = new int[layout.TensorCount + 1];
        for (var t = 0; t < layout.TensorCount; t++) firstTiles[t + 1] = firstTiles[t] + SelectionKernels.TileCount(layout[t].End.Value - layout[t].Start.Value);
        tiles = firstTiles[^1];

        var tileCoordinates = new int[tiles + 1];
        for (var t = 0; t < layout.TensorCount; t++)
        {
            for (var tile = firstTiles[t]; tile < firstTiles[t + 1]; tile++) tileCoordinates[tile] = layout.Offsets[t] + ((tile - firstTiles[t]) * SelectionKernels.TileSize);
        }

        tileCoordinates[tiles] = n;
        using var guard = no_grad();
        using var host = tensor(tileCoordinates);
        coordinates = host.to(residual.device, copy: true).DetachFromDisposeScope();
        hostState = queue.AllocateHost(sizeof(int) * SelectionState.Length);
        state = Integers(SelectionState.Length);
        histogram = Integers(SelectionKernels.GreatestBins);
        starts = Integers(tiles);
        counts = Integers(tiles);
        above = Integers(tiles);
        equal = Integers(tiles);

        // Nothing is known of the values yet: without candidates, the whole vector is looked at.
        floor = int.MaxValue;
    }

    /// <summary>The coordinates selected last, ascending. Valid until the next <see cref="Begin"/>.</summary>
    public ReadOnlySpan<int> Indices => Count == 0 ? [] : hostIndices!.Part<int>(0, Count);

    /// <summary>Their values. Valid likewise, after <see cref="Select"/>.</summary>
    public ReadOnlySpan<float> Values => Count == 0 ? [] : hostValues!.Part<float>(0, Count);

    /// <summary>The device's queue.</summary>
    public IKernelQueue Queue => queue;

    /// <summary>Whether all that was selected last is finite.</summary>
    public bool IsFinite { get; private set; }

    /// <summary>The state of a selection on the device, see <see cref="SelectionState"/>.</summary>
    public KernelArgument StateView => DeviceMemory.View(state);

    /// <summary>The selected coordinates on the device; as many as were to be selected.</summary>
    public KernelArgument SelectedView => DeviceMemory.View(selected!);

    /// <summary>The residual on the device.</summary>
    public KernelArgument ResidualView => DeviceMemory.View(residual);

    /// <summary>How many were selected last.</summary>
    public int Count { get; private set; }

    /// <summary>Whether the last selection had to look at the whole vector, because its guess of the floor was wrong.</summary>
    public bool LookedAtAll { get; private set; }

    /// <summary>Begins a step.</summary>
    /// <param name="count">How many to select, k, 1 to n.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="count"/> is not in 1 to n.</exception>
    public void Begin(int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, n);
        Count = 0;
        if (count != k) Resize(count);
        queue.Launch(nameof(SelectionKernels.Begin), 1, [DeviceMemory.View(state), DeviceMemory.View(histogram), k]);
    }

    /// <summary>Adds a tensor's gradient to what is owed. To be called for each tensor, once.</summary>
    /// <param name="tensor">The tensor's index in the layout.</param>
    /// <param name="gradient">The gradient, float32, contiguous, on the device, as many elements as the tensor has; null: nothing is added. Stays the caller's.</param>
    /// <exception cref="ArgumentException">The gradient is not one for this tensor.</exception>
    public void Accumulate(int tensor, Tensor? gradient)
    {
        var length = (tensor + 1 < offsets.Length ? offsets[tensor + 1] : n) - offsets[tensor];
        if (length == 0) return;
        if (gradient is not null && (gradient.numel() != length || gradient.dtype != ScalarType.Float32))
        {
            throw new ArgumentException($"The gradient of tensor {tensor} is {gradient.dtype} of {gradient.numel()} elements; float32 of {length} is needed.", nameof(gradient));
        }

        var added = gradient is null ? KernelArgument.View(0, 0) : DeviceMemory.View(gradient);
        var owed = DeviceMemory.Part(DeviceMemory.AddressOf(residual), offsets[tensor], length);
        var (firstTile, count) = (firstTiles[tensor], firstTiles[tensor + 1] - firstTiles[tensor]);
        var kernel = (added.First | owed.First) % 16 == 0 ? nameof(SelectionKernels.AccumulateQuads) : nameof(SelectionKernels.AccumulateScalars);
        queue.Launch(
            kernel,
            Math.Min(count, queue.FullGrid),
            [
                added,
                owed,
                DeviceMemory.View(state),
                DeviceMemory.View(indices!),
                DeviceMemory.View(candidates!),
                DeviceMemory.Part(DeviceMemory.AddressOf(starts), firstTile, count),
                DeviceMemory.Part(DeviceMemory.AddressOf(counts), firstTile, count),
                offsets[tensor],
                floor,
            ]);
    }

    /// <summary>Selects, and waits for the result.</summary>
    /// <param name="release">Whether what is selected becomes zero in the residual; otherwise it stays, for <see cref="Subtract"/>.</param>
    public void Select(bool release)
    {
        Enqueue(release);
        queue.CopyToHost(hostValues!.Address, DeviceMemory.AddressOf(values!), sizeof(float) * (long)k);
        Complete();
    }

    /// <summary>Puts a selection into the queue, and the copy of its coordinates. <see cref="Complete"/> is to be called before the next <see cref="Begin"/>.</summary>
    /// <param name="release">Whether what is selected becomes zero in the residual.</param>
    public void Enqueue(bool release)
    {
        var (vector, stateView, bits) = (DeviceMemory.View(residual), DeviceMemory.View(state), DeviceMemory.View(candidates!));
        var counted = DeviceMemory.View(histogram);
        var grid = Math.Min(queue.FullGrid, tiles);
        foreach (var (shift, digitBits) in Digits)
        {
            queue.Launch(nameof(SelectionKernels.Histogram), grid, [vector, stateView, bits, counted, k, floor, shift, digitBits]);
            queue.Launch(nameof(SelectionKernels.FindDigit), 1, [stateView, counted, shift, digitBits]);
        }

        var (first, tileStarts, tileCounts) = (DeviceMemory.View(coordinates), DeviceMemory.View(starts), DeviceMemory.View(counts));
        var (places, ties) = (DeviceMemory.View(above), DeviceMemory.View(equal));
        queue.Launch(nameof(SelectionKernels.CountTiles), grid, [vector, stateView, bits, first, tileStarts, tileCounts, places, ties, k, floor]);
        queue.Launch(nameof(SelectionKernels.ScanTiles), 1, [stateView, places, ties, (int)bits.Length, k, floor]);
        var (selectedView, valueView) = (DeviceMemory.View(selected!), DeviceMemory.View(values!));
        queue.Launch(
            nameof(SelectionKernels.Compact),
            grid,
            [vector, stateView, DeviceMemory.View(indices!), bits, first, tileStarts, tileCounts, places, ties, selectedView, valueView, k, floor, release ? 1 : 0]);
        queue.CopyToHost(hostState.Address, (nint)stateView.First, hostState.Length);
        queue.CopyToHost(hostIndices!.Address, (nint)selectedView.First, sizeof(int) * (long)k);
    }

    /// <summary>Waits for the queue, and so for the coordinates.</summary>
    public void Complete()
    {
        queue.Synchronize();
        var told = hostState.Part<int>(0, SelectionState.Length);
        Count = told[SelectionState.Selected];
        LookedAtAll = told[SelectionState.WholeVector] != 0;
        IsFinite = told[SelectionState.NonFinite] == 0;
        MoveFloor(told);
    }

    /// <summary>Takes off the residual what was sent of the selected coordinates.</summary>
    /// <param name="sent">What was sent of each, in their order.</param>
    /// <exception cref="ArgumentException">There are not as many as were selected.</exception>
    public void Subtract(ReadOnlySpan<float> sent)
    {
        if (sent.Length != Count) throw new ArgumentException($"{sent.Length} values for {Count} selected coordinates.", nameof(sent));
        if (Count == 0) return;
        var target = DeviceMemory.AddressOf(values!);
        sent.CopyTo(hostValues!.Part<float>(0, Count));
        queue.CopyToDevice(target, hostValues.Address, sizeof(float) * (long)Count);
        queue.Launch(
            nameof(UpdateKernels.Subtract),
            Math.Min(queue.FullGrid, (Count + queue.GroupSize - 1) / queue.GroupSize),
            [DeviceMemory.View(residual), DeviceMemory.Part(DeviceMemory.AddressOf(selected!), 0, Count), KernelArgument.View(target, Count)]);
        queue.Synchronize();
    }

    /// <summary>Frees the memory, which the queue must not be using any more.</summary>
    public void Dispose()
    {
        foreach (var memory in new[] { hostState, hostIndices, hostValues }) memory?.Dispose();
        foreach (var tensor in new[] { state, histogram, coordinates, starts, counts, above, equal, indices, candidates, selected, values }) tensor?.Dispose();
    }

    /// <summary>Puts the next floor somewhat below the threshold, the further the more the last guess was at fault.</summary>
    private void MoveFloor(ReadOnlySpan<int> told)
    {
        var collected = told[SelectionState.Candidates];
        if (floor != int.MaxValue)
        {
            if (collected > candidates!.numel()) margin /= 4;
            else if (LookedAtAll) margin *= 4;
            else if (collected > (2L * k) + 256) margin /= 2;
            else if (collected < k + (k / 8)) margin += margin / 2;
            margin = Math.Clamp(margin, LeastMargin, GreatestMargin);
        }

        floor = Count < k || k == n ? 0 : Math.Max(0, told[SelectionState.Threshold] - 1 - margin);
    }

    private void Resize(int count)
    {
        k = count;
        floor = int.MaxValue;
        foreach (var tensor in new[] { indices, candidates, selected, values }) tensor?.Dispose();
        var capacity = Math.Min(n, (4L * k) + 4096);
        indices = Integers(capacity);
        candidates = Integers(capacity);
        selected = Integers(k);
        values = zeros(k, dtype: ScalarType.Float32, device: residual.device).DetachFromDisposeScope();
        hostIndices?.Dispose();
        hostValues?.Dispose();
        hostIndices = queue.AllocateHost(sizeof(int) * (long)k);
        hostValues = queue.AllocateHost(sizeof(float) * (long)k);
    }

    private Tensor Integers(long length) => zeros(length, dtype: ScalarType.Int32, device: residual.device).DetachFromDisposeScope();
}
