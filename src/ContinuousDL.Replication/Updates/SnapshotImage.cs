using System.Buffers.Binary;
using System.Globalization;
using System.IO.Hashing;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>
/// A snapshot as the bytes of a safetensors file: a header, and the snapshot's own memory, of which no copy is made. Any number of
/// readers share it.
/// </summary>
public sealed class SnapshotImage
{
    /// <summary>The media type of a snapshot on its own.</summary>
    public const string MediaType = "application/vnd.continuousdl.snapshot";

    /// <summary>The bytes that are written at once where that takes memory of the stream until it has gone.</summary>
    private const int PieceLength = 1 << 16;

    // Where each segment begins; the last number is the length.
    private readonly List<ReadOnlyMemory<byte>> segments = [];
    private readonly List<long> starts = [0];

    /// <summary>Makes the image of a snapshot.</summary>
    /// <param name="snapshot">The snapshot. The image reads its memory, without a copy.</param>
    /// <exception cref="ArgumentNullException"><paramref name="snapshot"/> is null.</exception>
    /// <exception cref="NotSupportedException">The format can't hold its names.</exception>
    public SnapshotImage(ModelSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        Snapshot = snapshot;

        // As the reference implementation orders them: the widest elements first, so that all lie aligned.
        var entries = snapshot.Layout.Entries;
        var order = Enumerable.Range(0, entries.Count)
            .OrderByDescending(i => entries[i].ElementSize)
            .ThenBy(i => entries[i].Name, StringComparer.Ordinal)
            .ToArray();
        var header = SafetensorsHeader.Format(Describe(entries, order), SnapshotMetadata.Of(snapshot));
        var prefix = new byte[sizeof(ulong) + header.Length];
        BinaryPrimitives.WriteUInt64LittleEndian(prefix, (ulong)header.Length);
        header.CopyTo(prefix, sizeof(ulong));
        Add(prefix);
        foreach (var i in order)
        {
            var values = snapshot.Tensor(i);
            for (var part = 0; part < values.PartCount; part++) Add(values.Part(part));
        }

        Tag = string.Create(CultureInfo.InvariantCulture, $"{snapshot.RunId:N}-{snapshot.Sequence}-{snapshot.StateDigest:x16}-{XxHash3.HashToUInt64(prefix):x16}");
    }

    /// <summary>The snapshot.</summary>
    public ModelSnapshot Snapshot { get; }

    /// <summary>The size in bytes.</summary>
    public long Length => starts[^1];

    /// <summary>Says which bytes they are: run, sequence, digest, and a hash of the header, which has the signature.</summary>
    public string Tag { get; }

    /// <summary>Writes all of it.</summary>
    /// <param name="stream">Where to. It stays the caller's.</param>
    public void WriteTo(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        foreach (var segment in segments) stream.Write(segment.Span);
    }

    /// <summary>Writes all of it, in small pieces: a stream that can't pass on a piece yet may keep it in memory.</summary>
    /// <param name="stream">Where to. It stays the caller's.</param>
    /// <param name="cancellationToken">Stops half way.</param>
    public async Task WriteToAsync(Stream stream, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(stream);
        foreach (var segment in segments) await WriteInPiecesAsync(stream, segment, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Writes bytes in small pieces.</summary>
    internal static async Task WriteInPiecesAsync(Stream stream, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        for (; bytes.Length > PieceLength; bytes = bytes[PieceLength..]) await stream.WriteAsync(bytes[..PieceLength], cancellationToken).ConfigureAwait(false);
        if (bytes.Length > 0) await stream.WriteAsync(bytes, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>All of it as a stream of its own, to be read from any place on.</summary>
    /// <returns>A stream that can seek; the caller's. The image and its other streams go on without it.</returns>
    public Stream OpenRead() => new Reading(this);

    private static IEnumerable<SafetensorsTensor> Describe(IReadOnlyList<LayoutEntry> entries, int[] order)
    {
        var position = 0L;
        foreach (var i in order)
        {
            var end = position + entries[i].SizeInBytes;
            yield return new SafetensorsTensor(entries[i].Name, entries[i].DType, [.. entries[i].Shape], position, end);
            position = end;
        }
    }

    private void Add(ReadOnlyMemory<byte> segment)
    {
        if (segment.IsEmpty) return;
        segments.Add(segment);
        starts.Add(Length + segment.Length);
    }

    /// <summary>The bytes from a place on, up to the end of the segment that it lies in; empty at the end.</summary>
    private ReadOnlyMemory<byte> From(long position)
    {
        if (position >= Length) return default;
        var found = starts.BinarySearch(position);
        var segment = found >= 0 ? found : ~found - 1;
        return segments[segment][(int)(position - starts[segment])..];
    }

    private sealed class Reading(SnapshotImage image) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => true;

        public override bool CanWrite => false;

        public override long Length => image.Length;

        public override long Position
        {
            get;
            set
            {
                ArgumentOutOfRangeException.ThrowIfNegative(value);
                field = value;
            }
        }

        public override int Read(Span<byte> buffer)
        {
            var rest = image.From(Position);
            var count = Math.Min(rest.Length, buffer.Length);
            rest.Span[..count].CopyTo(buffer);
            Position += count;
            return count;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled<int>(cancellationToken) : new(Read(buffer.Span));

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override long Seek(long offset, SeekOrigin origin) => Position = origin switch
        {
            SeekOrigin.Begin => offset,
            SeekOrigin.Current => Position + offset,
            _ => Length + offset,
        };

        public override void Flush()
        {
        }

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
