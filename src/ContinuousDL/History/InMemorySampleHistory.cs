using ContinuousDL.Memory;
using ContinuousDL.Replication;
using static TorchSharp.torch;

namespace ContinuousDL.History;

/// <summary>
/// Keeps the samples in memory, in tensors on the CPU: all of them, or the newest up to a capacity.
/// </summary>
/// <remarks>
/// Samples lie in chunks of growing size. An append copies its own samples and nothing else, and a forgotten sample's memory
/// goes with its chunk. A history of limited capacity divides it into at least eight chunks, so that what it holds on to is
/// at most about an eighth more than the capacity. An index that is no longer kept fails clearly in <see cref="Gather"/>.
/// Samples of any shape and dtype are kept bit by bit, quantized and sparse ones excepted. Not thread-safe.
/// </remarks>
/// <example>
/// <code>
/// using var history = new InMemorySampleHistory(new() { Capacity = 1_000_000 });
/// history.Append(images, labels);                  // [N, 1, 28, 28] and [N]
/// using var batch = history.Gather([0, 7, 3]);     // [3, 1, 28, 28] and [3]
/// </code>
/// </example>
public sealed class InMemorySampleHistory : ISampleHistory
{
    private const long SmallestChunkBytes = 64 << 10;
    private const long ChunksPerCapacity = 8;

    private readonly long capacity;
    private readonly long maximumChunkBytes;
    private readonly List<Chunk> chunks = [];
    private SampleFormat? format;
    private bool disposed;

    /// <summary>Makes an empty history.</summary>
    /// <param name="options">The options, read once: later changes have no effect. Default: as the options say.</param>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    public InMemorySampleHistory(InMemorySampleHistoryOptions? options = null)
    {
        options = OptionsValidator.Validate(options ?? new(), nameof(options));
        capacity = options.Capacity ?? long.MaxValue;
        maximumChunkBytes = options.MaximumChunkBytes;
    }

    /// <inheritdoc />
    public long FirstIndex { get; private set; }

    /// <inheritdoc />
    public long EndIndex { get; private set; }

    /// <inheritdoc />
    public long Count => EndIndex - FirstIndex;

    /// <inheritdoc />
    public long? Capacity => capacity == long.MaxValue ? null : capacity;

    /// <inheritdoc />
    /// <remarks>
    /// Of a batch larger than the capacity the newest samples are kept; the others get an index, too, and are forgotten at
    /// once. Inputs that require a gradient are kept without their graph.
    /// </remarks>
    public long Append(Tensor inputs, Tensor targets)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        var given = SampleFormat.Of(inputs, targets, format, out var count);
        var start = EndIndex;
        var chunksBefore = chunks.Count;
        try
        {
            CopyIn(inputs, targets, given, count);
        }
        catch
        {
            for (var i = chunksBefore; i < chunks.Count; i++) chunks[i].Dispose();
            chunks.RemoveRange(chunksBefore, chunks.Count - chunksBefore);
            throw;
        }

        format = given;
        EndIndex = start + count;
        FirstIndex = Math.Max(FirstIndex, EndIndex - capacity);
        LetForgottenChunksGo();
        return start;
    }

    /// <inheritdoc />
    /// <remarks>The batch's tensors belong to no dispose scope: a scope around the call leaves them alone.</remarks>
    public unsafe SampleBatch Gather(ReadOnlySpan<long> indices)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        HistoryIndices.CheckKept(indices, FirstIndex, EndIndex);

        var (inputs, targets) = format!.NewTensors(indices.Length);
        var (inputBytes, targetBytes) = (format.Input.Bytes, format.Target.Bytes);
        var input = TensorMemory.AddressOf(inputs);
        var target = TensorMemory.AddressOf(targets);
        foreach (var index in indices)
        {
            var chunk = ChunkOf(index);
            var row = index - chunk.Start;
            Buffer.MemoryCopy(chunk.InputRows + (row * inputBytes), input, inputBytes, inputBytes);
            Buffer.MemoryCopy(chunk.TargetRows + (row * targetBytes), target, targetBytes, targetBytes);
            input += inputBytes;
            target += targetBytes;
        }

        return new SampleBatch(inputs, targets);
    }

    /// <summary>Lets all samples go. Batches that were gathered stay valid.</summary>
    public void Dispose()
    {
        disposed = true;
        foreach (var chunk in chunks) chunk.Dispose();
        chunks.Clear();
    }

    /// <summary>Copies the samples behind the newest one, without making them visible.</summary>
    private void CopyIn(Tensor inputs, Tensor targets, SampleFormat given, long count)
    {
        using var inputSource = inputs.detach();
        using var targetSource = targets.detach();
        for (var row = Math.Max(0, count - capacity); row < count;)
        {
            var position = EndIndex + row;
            if (chunks.Count == 0 || position >= chunks[^1].End) chunks.Add(NewChunk(position, given, count - row));
            var chunk = chunks[^1];
            var rows = Math.Min(count - row, chunk.End - position);
            CopyRows(inputSource, row, chunk.Inputs, position - chunk.Start, rows);
            CopyRows(targetSource, row, chunk.Targets, position - chunk.Start, rows);
            row += rows;
        }
    }

    private static void CopyRows(Tensor source, long sourceRow, Tensor destination, long destinationRow, long rows)
    {
        using var from = source.narrow(0, sourceRow, rows);
        using var to = destination.narrow(0, destinationRow, rows);
        to.copy_(from);
    }

    private Chunk NewChunk(long start, SampleFormat given, long rowsToCome)
    {
        var sampleBytes = Math.Max(1, given.Bytes);
        var most = Math.Max(1, maximumChunkBytes / sampleBytes);
        if (capacity < long.MaxValue) most = Math.Min(most, Math.Max(1, capacity / ChunksPerCapacity));
        var wanted = Math.Max(Math.Max(Count, rowsToCome), SmallestChunkBytes / sampleBytes);
        var rows = Math.Min(wanted, most);
        var (inputs, targets) = given.NewTensors(rows);
        return new Chunk(start, rows, inputs, targets);
    }

    private Chunk ChunkOf(long index)
    {
        var (low, high) = (0, chunks.Count - 1);
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            if (chunks[middle].Start <= index) low = middle;
            else high = middle - 1;
        }

        return chunks[low];
    }

    private void LetForgottenChunksGo()
    {
        var forgotten = 0;
        while (forgotten < chunks.Count && chunks[forgotten].End <= FirstIndex) chunks[forgotten++].Dispose();
        chunks.RemoveRange(0, forgotten);
    }

    /// <summary>Room for the samples [<see cref="Start"/>, <see cref="End"/>).</summary>
    private sealed unsafe class Chunk(long start, long rows, Tensor inputs, Tensor targets) : IDisposable
    {
        public long Start => start;

        public long End => start + rows;

        public Tensor Inputs => inputs;

        public Tensor Targets => targets;

        public byte* InputRows { get; } = TensorMemory.AddressOf(inputs);

        public byte* TargetRows { get; } = TensorMemory.AddressOf(targets);

        public void Dispose()
        {
            inputs.Dispose();
            targets.Dispose();
        }
    }
}
