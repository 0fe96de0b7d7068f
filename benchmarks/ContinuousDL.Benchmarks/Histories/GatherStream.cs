using System.Runtime.InteropServices;
using ContinuousDL.History;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Histories;

/// <summary>Random batches of 128 out of many small images: gathered from histories, and copied from plain memory.</summary>
internal sealed unsafe class GatherStream : IDisposable
{
    /// <summary>The samples of a batch.</summary>
    public const int BatchSize = 128;

    /// <summary>The bytes of an image, <c>[1, 28, 28]</c> of dtype uint8.</summary>
    public const int ImageBytes = 28 * 28;

    private const int RowBytes = ImageBytes + sizeof(long);
    private const int AppendSize = 10_000;
    private const int Batches = 1024;

    private readonly string directory = Directory.CreateTempSubdirectory("history-benchmark-").FullName;
    private readonly long[] indices;
    private readonly byte* rows;
    private readonly byte* batch = (byte*)NativeMemory.Alloc(BatchSize * RowBytes);
    private int next;

    /// <summary>Makes the histories, and the same rows in plain memory.</summary>
    /// <param name="samples">How many samples there are.</param>
    public GatherStream(int samples)
    {
        var random = new Random(1);
        indices = new long[Batches * BatchSize];
        foreach (ref var index in indices.AsSpan()) index = random.Next(samples);
        rows = (byte*)NativeMemory.Alloc((nuint)samples, RowBytes);
        InMemory = new InMemorySampleHistory();
        Mapped = new MappedSampleHistory(directory);
        for (var start = 0; start < samples; start += AppendSize) Append(random, start, Math.Min(AppendSize, samples - start));
    }

    /// <summary>The history in memory.</summary>
    public ISampleHistory InMemory { get; }

    /// <summary>The history on disk, whose files the system has in memory.</summary>
    public MappedSampleHistory Mapped { get; private set; }

    /// <summary>Gathers the next batch.</summary>
    public void Gather(ISampleHistory history) => history.Gather(NextIndices()).Dispose();

    /// <summary>Copies the next batch's rows, one after the other, into memory that is there.</summary>
    public void Copy()
    {
        var target = batch;
        foreach (var index in NextIndices())
        {
            Buffer.MemoryCopy(rows + (index * RowBytes), target, RowBytes, RowBytes);
            target += RowBytes;
        }
    }

    /// <summary>Closes the history on disk and opens it again.</summary>
    public void Reopen()
    {
        Mapped.Dispose();
        Mapped = new MappedSampleHistory(directory);
    }

    /// <inheritdoc />
    public void Dispose()
    {
        InMemory.Dispose();
        Mapped.Dispose();
        NativeMemory.Free(rows);
        NativeMemory.Free(batch);
        Directory.Delete(directory, recursive: true);
    }

    private ReadOnlySpan<long> NextIndices()
    {
        next = (next + 1) % Batches;
        return indices.AsSpan(next * BatchSize, BatchSize);
    }

    private void Append(Random random, int start, int count)
    {
        using var images = empty([count, 1, 28, 28], dtype: ScalarType.Byte);
        using var labels = zeros(count, dtype: ScalarType.Int64);
        random.NextBytes(images.bytes);
        InMemory.Append(images, labels);
        Mapped.Append(images, labels);
        for (var row = 0; row < count; row++)
        {
            var target = new Span<byte>(rows + ((long)(start + row) * RowBytes), RowBytes);
            images.bytes.Slice(row * ImageBytes, ImageBytes).CopyTo(target);
            target[ImageBytes..].Clear();
        }
    }
}
