using ContinuousDL.Compression;
using ContinuousDL.Vectors;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>
/// Adds gradients or updates to a residual on a device and selects exactly its k coordinates of largest magnitude: the set, the
/// order and the ties of <see cref="TopKCompressor"/> over the whole model. Or gathers coordinates that are given.
/// </summary>
/// <remarks>
/// <para>
/// A step: <see cref="Begin"/>; <see cref="Accumulate"/> or <see cref="TakeBack"/> for every tensor, in any order;
/// <see cref="Select"/> or <see cref="Gather"/>. The host waits once, for the result. Sums are those of IEEE float32, bit for bit
/// the CPU's; only the bits of a NaN that an addition makes are the device's own, where a CPU passes on those of an operand.
/// </para>
/// <para>
/// The candidates' floor carries over from step to step, as that of the CPU's selection does. Memory on the device: 8 bytes for
/// each of about 4k candidates, 8 for each of k results and 20 for each tile of 4,096 coordinates, beside the residual, which is the
/// caller's. Not thread-safe.
/// </para>
/// </remarks>
internal sealed class DeviceSelector : IDisposable
{
    /// <summary>Three digits make up the 31 bits of a magnitude, the highest first.</summary>
    private static readonly (int Shift, int Bits)[] Digits = [(20, 11), (10, 10), (0, 10)];

    /// <summary>How far below the last threshold the next floor starts, in units of the last bit of a magnitude, and what it stays between. 2^23 is a factor of 2.</summary>
    private const int FirstMargin = 1 << 20, LeastMargin = 1 << 8, GreatestMargin = 1 << 25;

    /// <summary>The greatest magnitude that is finite.</summary>
    private const int GreatestFinite = 0x7f7fffff;

    private static readonly ScalarType[] DTypes = [ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float16];
    private static readonly string[] AccumulateNames = NamesOf(nameof(AccumulationKernels.Accumulate));
    private static readonly string[] TakeBackNames = NamesOf(nameof(AccumulationKernels.TakeBack));

    private readonly IKernelQueue queue;
    private readonly Device device;
    private readonly int[] offsets;
    private readonly int[] firstTiles;
    private readonly int n, tiles;
    private readonly Tensor vector;
    private readonly KernelArgument residual;
    private readonly Scratch state, histogram, coordinates, starts, counts, above, equal;
    private readonly HostMemory hostState;
    private Scratch indices, candidates, selected, values;
    private HostMemory? hostIndices, hostValues;
    private int k, room, wanted, floor, margin = FirstMargin;

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

        (this.queue, device, n) = (queue, residual.device, layout.Length);
        (vector, this.residual) = (residual, DeviceMemory.View(residual));
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
        coordinates = new Scratch(host.to(device, copy: true).DetachFromDisposeScope());
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

    /// <summary>Their values. Valid likewise, after <see cref="Select"/> or <see cref="Gather"/>.</summary>
    public ReadOnlySpan<float> Values => Count == 0 ? [] : hostValues!.Part<float>(0, Count);

    /// <summary>The device's queue.</summary>
    public IKernelQueue Queue => queue;

    /// <summary>Whether all that was selected last is finite; after <see cref="Gather"/>, whether all is that was accumulated.</summary>
    public bool IsFinite { get; private set; }

    /// <summary>The state of a selection on the device, see <see cref="SelectionState"/>.</summary>
    public KernelArgument StateView => state.View;

    /// <summary>The selected coordinates on the device; room for as many as were to be selected, or more.</summary>
    public KernelArgument SelectedView => selected.View;

    /// <summary>The coordinates on the device that were selected last, or given. Valid until the next <see cref="Begin"/>, where there are any.</summary>
    public KernelArgument SentView => selected.View.Part(0, Count, sizeof(int));

    /// <summary>The residual on the device.</summary>
    public KernelArgument ResidualView => residual;

    /// <summary>How many were selected last.</summary>
    public int Count { get; private set; }

    /// <summary>Whether the last selection had to look at the whole vector, because its guess of the floor was wrong.</summary>
    public bool LookedAtAll { get; private set; }

    /// <summary>The dtypes that the kernels read and write.</summary>
    public static bool Supports(ScalarType dtype) => Array.IndexOf(DTypes, dtype) >= 0;

    /// <summary>
    /// What candidates are collected above in this step. Without a selection these are the values that are not finite, of which only the
    /// number matters.
    /// </summary>
    private int CollectedFloor => wanted == 0 ? GreatestFinite : floor;

    /// <summary>Begins a step.</summary>
    /// <param name="count">How many to select, k, 0 to n; 0 also where the coordinates are given.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="count"/> is not in 0 to n.</exception>
    public void Begin(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, n);
        (Count, wanted) = (0, count);
        if (count > 0 && count != k) Resize(count);
        queue.Launch(nameof(SelectionKernels.Begin), 1, [state.View, histogram.View, count]);
    }

    /// <summary>Adds a tensor's gradient to what is owed. To be called for each tensor, once, or <see cref="TakeBack"/>.</summary>
    /// <param name="tensor">The tensor's index in the layout.</param>
    /// <param name="gradient">
    /// The gradient, float32, bfloat16 or float16, contiguous, on the device, as many elements as the tensor has; null: nothing is
    /// added. Stays the caller's.
    /// </param>
    /// <exception cref="ArgumentException">The gradient is not one for this tensor.</exception>
    public void Accumulate(int tensor, Tensor? gradient)
    {
        var length = LengthOf(tensor);
        if (length == 0) return;
        var dtype = gradient is null ? ScalarType.Float32 : Check(tensor, gradient, nameof(gradient));
        var added = gradient is null ? KernelArgument.View(0, 0) : DeviceMemory.View(gradient);
        var owed = residual.Part(offsets[tensor], length, sizeof(float));
        queue.Launch(
            Name(AccumulateNames, dtype),
            GridOf(tensor),
            [
                added,
                owed,
                state.View,
                indices.View,
                candidates.View,
                PerTile(starts, tensor),
                PerTile(counts, tensor),
                offsets[tensor],
                CollectedFloor,
                Aligned(added.First | owed.First),
            ]);
    }

    /// <summary>
    /// Takes the optimizer's step back out of a tensor, adds it to what is owed, and puts the tensor at w + α·e, where it was before
    /// the step. To be called for each tensor, once, or <see cref="Accumulate"/>.
    /// </summary>
    /// <param name="tensor">The tensor's index in the layout.</param>
    /// <param name="trained">The tensor after the step, float32, bfloat16 or float16, contiguous, on the device. Stays the caller's.</param>
    /// <param name="deployed">The deployed weights, w, likewise and of the same dtype. Stays the caller's.</param>
    /// <param name="lookahead">α.</param>
    /// <exception cref="ArgumentException">The weights are not those of this tensor.</exception>
    public void TakeBack(int tensor, Tensor trained, Tensor deployed, float lookahead)
    {
        var length = LengthOf(tensor);
        if (length == 0) return;
        var dtype = CheckPair(tensor, trained, deployed);
        var (moved, weights, owed) = (DeviceMemory.View(trained), DeviceMemory.View(deployed), residual.Part(offsets[tensor], length, sizeof(float)));
        queue.Launch(
            Name(TakeBackNames, dtype),
            GridOf(tensor),
            [
                moved,
                weights,
                owed,
                state.View,
                indices.View,
                candidates.View,
                PerTile(starts, tensor),
                PerTile(counts, tensor),
                offsets[tensor],
                CollectedFloor,
                Aligned(moved.First | weights.First | owed.First),
                lookahead,
            ]);
    }

    /// <summary>Selects, and waits for the result.</summary>
    /// <param name="release">Whether what is selected becomes zero in the residual; otherwise it stays, for <see cref="Subtract"/>.</param>
    public void Select(bool release)
    {
        if (wanted == 0) return;
        Enqueue(release);
        queue.CopyToHost(hostValues!.Address, (nint)values.View.First, sizeof(float) * (long)k);
        Complete();
    }

    /// <summary>Puts a selection of at least one into the queue, and the copy of its coordinates. <see cref="Complete"/> is to be called before the next <see cref="Begin"/>.</summary>
    /// <param name="release">Whether what is selected becomes zero in the residual.</param>
    public void Enqueue(bool release)
    {
        var grid = Math.Min(queue.FullGrid, tiles);
        foreach (var (shift, digitBits) in Digits)
        {
            queue.Launch(nameof(SelectionKernels.Histogram), grid, [residual, state.View, candidates.View, histogram.View, k, floor, shift, digitBits]);
            queue.Launch(nameof(SelectionKernels.FindDigit), 1, [state.View, histogram.View, shift, digitBits]);
        }

        queue.Launch(
            nameof(SelectionKernels.CountTiles),
            grid,
            [residual, state.View, candidates.View, coordinates.View, starts.View, counts.View, above.View, equal.View, k, floor]);
        queue.Launch(nameof(SelectionKernels.ScanTiles), 1, [state.View, above.View, equal.View, (int)candidates.View.Length, k, floor]);
        queue.Launch(
            nameof(SelectionKernels.Compact),
            grid,
            [
                residual,
                state.View,
                indices.View,
                candidates.View,
                coordinates.View,
                starts.View,
                counts.View,
                above.View,
                equal.View,
                selected.View,
                values.View,
                k,
                floor,
                release ? 1 : 0,
            ]);
        queue.CopyToHost(hostState.Address, (nint)state.View.First, hostState.Length);
        queue.CopyToHost(hostIndices!.Address, (nint)selected.View.First, sizeof(int) * (long)k);
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

    /// <summary>Takes coordinates that are given in place of a selection, and waits for their values.</summary>
    /// <param name="given">The coordinates, ascending and distinct.</param>
    /// <param name="factors">What the value of each is multiplied by.</param>
    /// <exception cref="ArgumentException">There are not as many factors as coordinates.</exception>
    public void Gather(ReadOnlySpan<int> given, ReadOnlySpan<float> factors)
    {
        if (factors.Length != given.Length) throw new ArgumentException($"{factors.Length} factors for {given.Length} coordinates.", nameof(factors));
        (Count, IsFinite) = (given.Length, true);
        if (Count == 0) return;
        if (room < Count) MakeRoom(Count);
        given.CopyTo(hostIndices!.Part<int>(0, Count));
        factors.CopyTo(hostValues!.Part<float>(0, Count));
        var (taken, read) = (SentView, values.View.Part(0, Count, sizeof(float)));
        queue.CopyToDevice((nint)taken.First, hostIndices.Address, sizeof(int) * (long)Count);
        queue.CopyToDevice((nint)read.First, hostValues.Address, sizeof(float) * (long)Count);
        queue.Launch(nameof(UpdateKernels.Gather), queue.GroupsFor(Count), [residual, taken, read]);
        queue.CopyToHost(hostValues.Address, (nint)read.First, sizeof(float) * (long)Count);
        queue.CopyToHost(hostState.Address, (nint)state.View.First, hostState.Length);
        queue.Synchronize();
        IsFinite = hostState.Part<int>(0, SelectionState.Length)[SelectionState.Candidates] == 0;
    }

    /// <summary>Finds a tensor to which something is owed that is not finite: for a message, since it looks at all of them.</summary>
    /// <returns>The index of the first in the layout; 0 where there is none.</returns>
    public int FindNonFinite()
    {
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        return Enumerable.Range(0, offsets.Length - 1).FirstOrDefault(t => !vector.narrow(0, offsets[t], LengthOf(t)).isfinite().all().item<bool>());
    }

    /// <summary>Takes off the residual what was sent of the selected coordinates.</summary>
    /// <param name="sent">What was sent of each, in their order.</param>
    /// <exception cref="ArgumentException">There are not as many as were selected.</exception>
    public void Subtract(ReadOnlySpan<float> sent)
    {
        if (sent.Length != Count) throw new ArgumentException($"{sent.Length} values for {Count} selected coordinates.", nameof(sent));
        if (Count == 0) return;
        var taken = values.View.Part(0, Count, sizeof(float));
        sent.CopyTo(hostValues!.Part<float>(0, Count));
        queue.CopyToDevice((nint)taken.First, hostValues.Address, sizeof(float) * (long)Count);
        queue.Launch(nameof(UpdateKernels.Subtract), queue.GroupsFor(Count), [residual, SentView, taken]);
        queue.Synchronize();
    }

    /// <summary>Frees the memory, which the queue must not be using any more.</summary>
    public void Dispose()
    {
        foreach (var memory in new[] { hostState, hostIndices, hostValues }) memory?.Dispose();
        foreach (var scratch in new[] { state, histogram, coordinates, starts, counts, above, equal, indices, candidates, selected, values }) scratch.Dispose();
    }

    private static string[] NamesOf(string method) => [.. DTypes.Select(d => KernelCatalog.NameFor(method, d))];

    private static string Name(string[] names, ScalarType dtype) => names[Array.IndexOf(DTypes, dtype)];

    private static int Aligned(long addresses) => addresses % 16 == 0 ? 1 : 0;

    private int LengthOf(int tensor) => offsets[tensor + 1] - offsets[tensor];

    private int GridOf(int tensor) => Math.Min(queue.FullGrid, firstTiles[tensor + 1] - firstTiles[tensor]);

    private KernelArgument PerTile(Scratch scratch, int tensor) =>
        scratch.View.Part(firstTiles[tensor], firstTiles[tensor + 1] - firstTiles[tensor], sizeof(int));

    private ScalarType Check(int tensor, Tensor elements, string name)
    {
        var (dtype, length) = (elements.dtype, LengthOf(tensor));
        if (elements.numel() == length && Supports(dtype)) return dtype;
        throw new ArgumentException($"The {name} of tensor {tensor} is {dtype} of {elements.numel()} elements; float32, bfloat16 or float16 of {length} is needed.", name);
    }

    private ScalarType CheckPair(int tensor, Tensor trained, Tensor deployed)
    {
        var dtype = Check(tensor, trained, nameof(trained));
        if (Check(tensor, deployed, nameof(deployed)) == dtype) return dtype;
        throw new ArgumentException($"The deployed weights of tensor {tensor} are {deployed.dtype}, the trained ones {dtype}; they must be of the same dtype.", nameof(deployed));
    }

    /// <summary>Puts the next floor somewhat below the threshold, the further the more the last guess was at fault.</summary>
    private void MoveFloor(ReadOnlySpan<int> told)
    {
        var collected = told[SelectionState.Candidates];
        if (floor != int.MaxValue)
        {
            if (collected > candidates.View.Length) margin /= 4;
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
        indices.Dispose();
        candidates.Dispose();
        var capacity = Math.Min(n, (4L * k) + 4096);
        indices = Integers(capacity);
        candidates = Integers(capacity);
        if (room < k) MakeRoom(k);
    }

    /// <summary>Makes room for results.</summary>
    private void MakeRoom(int count)
    {
        room = count;
        foreach (var memory in new[] { hostIndices, hostValues }) memory?.Dispose();
        selected.Dispose();
        values.Dispose();
        selected = Integers(count);
        values = new Scratch(zeros(count, dtype: ScalarType.Float32, device: device).DetachFromDisposeScope());
        hostIndices = queue.AllocateHost(sizeof(int) * (long)count);
        hostValues = queue.AllocateHost(sizeof(float) * (long)count);
    }

    private Scratch Integers(long length) => new(zeros(length, dtype: ScalarType.Int32, device: device).DetachFromDisposeScope());

    /// <summary>Memory of the selector's own, whose address is asked for once; the default one is empty.</summary>
    private readonly struct Scratch(Tensor tensor) : IDisposable
    {
        private readonly KernelArgument view = DeviceMemory.View(tensor);

        public KernelArgument View => view.IsView ? view : KernelArgument.View(0, 0);

        public void Dispose() => tensor?.Dispose();
    }
}
