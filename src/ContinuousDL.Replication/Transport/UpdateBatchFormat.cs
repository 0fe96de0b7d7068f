using System.Buffers.Binary;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Transport;

/// <summary>
/// A batch as a stream of bytes, for transports that answer a request with one: what the newest sequence is, the snapshot as
/// safetensors, the messages as the codec made them, and when each was published.
/// </summary>
/// <remarks>
/// All numbers are little-endian. <c>"CDLB"</c>; version, 1 byte (1); newest sequence, 8 bytes; length of the snapshot, 8 bytes,
/// 0 without one; the snapshot; number of messages, 4 bytes; for each message its time of publication in ticks of 100 ns since
/// the year 1, 8 bytes, its length, 4 bytes, and the message. Messages and snapshots carry checks of their own; this format
/// only has to tell where each ends.
/// </remarks>
public static class UpdateBatchFormat
{
    /// <summary>The media type of a batch.</summary>
    public const string MediaType = "application/vnd.continuousdl.updates";

    private const byte Version = 1;
    private const int HeaderBytes = 4 + 1 + sizeof(long) + sizeof(long);
    private const int MessageHeaderBytes = sizeof(long) + sizeof(int);

    private static ReadOnlySpan<byte> Magic => "CDLB"u8;

    /// <summary>Writes a batch.</summary>
    /// <param name="stream">Where to. It stays the caller's.</param>
    /// <param name="batch">The batch.</param>
    /// <param name="cancellationToken">Stops half way.</param>
    public static async Task WriteAsync(Stream stream, UpdateBatch batch, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(batch);
        var snapshot = batch.Snapshot is null ? null : new SnapshotImage(batch.Snapshot);
        var header = new byte[HeaderBytes];
        Magic.CopyTo(header);
        header[4] = Version;
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(5), batch.NewestSequence);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(13), snapshot?.Length ?? 0);
        await stream.WriteAsync(header, cancellationToken).ConfigureAwait(false);
        if (snapshot is not null) await snapshot.WriteToAsync(stream, cancellationToken).ConfigureAwait(false);
        BinaryPrimitives.WriteInt32LittleEndian(header, batch.Messages.Count);
        await stream.WriteAsync(header.AsMemory(0, sizeof(int)), cancellationToken).ConfigureAwait(false);
        foreach (var message in batch.Messages)
        {
            BinaryPrimitives.WriteInt64LittleEndian(header, message.PublishedAt.UtcTicks);
            BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(sizeof(long)), message.Bytes.Length);
            await stream.WriteAsync(header.AsMemory(0, MessageHeaderBytes), cancellationToken).ConfigureAwait(false);
            await SnapshotImage.WriteInPiecesAsync(stream, message.Bytes, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Reads a batch.</summary>
    /// <param name="stream">Where it begins. It stays the caller's.</param>
    /// <param name="maximumBytes">The most bytes that a snapshot, and all messages together, may take.</param>
    /// <param name="cancellationToken">Stops half way.</param>
    /// <exception cref="InvalidDataException">It is not a batch, or larger than allowed, or its snapshot is not valid.</exception>
    /// <exception cref="EndOfStreamException">It is cut off.</exception>
    public static async Task<UpdateBatch> ReadAsync(Stream stream, long maximumBytes, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentOutOfRangeException.ThrowIfNegative(maximumBytes);
        var header = new byte[HeaderBytes];
        await stream.ReadExactlyAsync(header, cancellationToken).ConfigureAwait(false);
        if (!header.AsSpan(0, 4).SequenceEqual(Magic)) throw new InvalidDataException("This is no batch of updates.");
        if (header[4] != Version) throw new InvalidDataException($"The batch is of version {header[4]}; this library reads version {Version}.");
        var newest = BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(5));
        var snapshotBytes = BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(13));
        var snapshot = snapshotBytes == 0 ? null : await ReadSnapshotAsync(stream, snapshotBytes, maximumBytes, cancellationToken).ConfigureAwait(false);
        await stream.ReadExactlyAsync(header.AsMemory(0, sizeof(int)), cancellationToken).ConfigureAwait(false);
        var count = BinaryPrimitives.ReadInt32LittleEndian(header);
        if (count < 0) throw new InvalidDataException($"The batch is said to have {count} messages.");
        var messages = new List<UpdateMessage>();
        var left = maximumBytes;
        for (var i = 0; i < count; i++)
        {
            await stream.ReadExactlyAsync(header.AsMemory(0, MessageHeaderBytes), cancellationToken).ConfigureAwait(false);
            var ticks = BinaryPrimitives.ReadInt64LittleEndian(header);
            if (ticks < DateTimeOffset.MinValue.Ticks || ticks > DateTimeOffset.MaxValue.Ticks) throw new InvalidDataException($"Message {i} is said to be of the time {ticks}, which there is not.");
            var length = BinaryPrimitives.ReadInt32LittleEndian(header.AsSpan(sizeof(long)));
            var bytes = await ReadMessageAsync(stream, length, left, cancellationToken).ConfigureAwait(false);
            messages.Add(new UpdateMessage(bytes, new DateTimeOffset(ticks, TimeSpan.Zero)));

            // Each message counts for more than its bytes, so that empty ones come to an end, too.
            left -= length + MessageHeaderBytes;
        }

        return new UpdateBatch { Snapshot = snapshot, Messages = messages, NewestSequence = newest };
    }

    private static async Task<ModelSnapshot> ReadSnapshotAsync(Stream stream, long length, long maximum, CancellationToken cancellationToken)
    {
        ThrowIfMore(length, maximum);
        try
        {
            var reader = new SnapshotReader(length: length, maximum: maximum);
            for (var next = reader.Next; next.Length > 0; next = reader.Next) reader.Advance(await ReadSomeAsync(stream, next, cancellationToken).ConfigureAwait(false));
            return reader.Finish();
        }
        catch (SnapshotFormatException e)
        {
            throw new InvalidDataException($"The batch's snapshot is not valid. {e.Message}", e);
        }
    }

    private static async Task<byte[]> ReadMessageAsync(Stream stream, int length, long maximum, CancellationToken cancellationToken)
    {
        ThrowIfMore(length, Math.Min(maximum, Array.MaxLength));
        var bytes = new ArrivingBytes(length, isCertain: false);
        while (!bytes.IsComplete) bytes.Advance(await ReadSomeAsync(stream, bytes.Next, cancellationToken).ConfigureAwait(false));
        return bytes.ToArray();
    }

    private static async ValueTask<int> ReadSomeAsync(Stream stream, Memory<byte> destination, CancellationToken cancellationToken)
    {
        var read = await stream.ReadAsync(destination, cancellationToken).ConfigureAwait(false);
        return read > 0 ? read : throw new EndOfStreamException("The batch is cut off.");
    }

    private static void ThrowIfMore(long length, long maximum)
    {
        if (length < 0 || length > maximum) throw new InvalidDataException($"A part of the batch is said to take {length:N0} bytes; {Math.Max(0, maximum):N0} are allowed.");
    }
}
