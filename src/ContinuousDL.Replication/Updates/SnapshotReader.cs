using System.Buffers.Binary;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>
/// Makes a snapshot of the bytes of a safetensors file as they arrive: it says where the next ones go, and does not mind how long
/// they take or where they come from. They go to their place at once, so that the model is in memory a single time.
/// </summary>
/// <remarks>Everything is checked before memory is taken for it. After an exception the reader is of no use any more.</remarks>
internal sealed class SnapshotReader
{
    private readonly TensorNames? names;
    private readonly long maximum;
    private readonly bool isCertain;
    private readonly List<TensorValues> values = [];
    private ArrivingBytes? current = new(sizeof(ulong), isCertain: true);
    private SafetensorsHeader? header;
    private SnapshotContent? content;
    private long? length;
    private long headerLength = -1;
    private int part;

    /// <summary>Expects a snapshot.</summary>
    /// <param name="names">The tensors of the model that it is to be for; null to take the layout from the metadata.</param>
    /// <param name="length">How many bytes there are said to be in all, where that is known.</param>
    /// <param name="isCertain">Whether that is so for sure; otherwise memory is taken as bytes arrive.</param>
    /// <param name="maximum">The most bytes to take.</param>
    public SnapshotReader(TensorNames? names = null, long? length = null, bool isCertain = false, long maximum = long.MaxValue)
    {
        this.names = names;
        this.length = length;
        this.isCertain = isCertain;
        this.maximum = maximum;
    }

    /// <summary>How many bytes have arrived.</summary>
    public long Position { get; private set; }

    /// <summary>Where the next bytes go; empty when all have arrived.</summary>
    public Memory<byte> Next => current?.Next ?? default;

    /// <summary>Reads a snapshot from a stream, up to its end.</summary>
    /// <param name="stream">The stream.</param>
    /// <param name="names">The tensors of the model that it is to be for; null to take the layout from the metadata.</param>
    /// <exception cref="SnapshotFormatException">It is not valid.</exception>
    /// <exception cref="ModelMismatchException">It is not of the module's architecture.</exception>
    public static ModelSnapshot Read(Stream stream, TensorNames? names)
    {
        var reader = new SnapshotReader(names, stream.CanSeek ? stream.Length - stream.Position : null, stream.CanSeek);
        for (var next = reader.Next; next.Length > 0; next = reader.Next)
        {
            var count = stream.Read(next.Span);
            if (count == 0) throw new SnapshotFormatException("The snapshot is cut off.");
            reader.Advance(count);
        }

        return stream.ReadByte() < 0 ? reader.Finish() : throw new SnapshotFormatException("There is something after the last tensor's values.");
    }

    /// <summary>Says that bytes have been written to <see cref="Next"/>.</summary>
    /// <param name="count">How many.</param>
    /// <exception cref="SnapshotFormatException">They are not those of a snapshot.</exception>
    /// <exception cref="ModelMismatchException">It is not of the module's architecture.</exception>
    public void Advance(int count)
    {
        current!.Advance(count);
        Position += count;
        while (current is { IsComplete: true }) current = Complete(current.ToArray());
    }

    /// <summary>Makes the snapshot of what has arrived, and checks its digest.</summary>
    /// <exception cref="SnapshotFormatException">The values are not those that it was written with.</exception>
    /// <exception cref="ModelMismatchException">The values of weights that the module's layers share differ.</exception>
    public ModelSnapshot Finish() => current is null ? content!.ToSnapshot(values) : throw new InvalidOperationException("Not all has arrived.");

    /// <summary>Takes what was expected, and says what comes next.</summary>
    private ArrivingBytes? Complete(byte[] bytes)
    {
        if (headerLength < 0) return ExpectHeader(BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        if (header is null) ReadHeader(bytes);
        else values[^1].SetPart(part++, bytes);
        return ExpectValues();
    }

    private ArrivingBytes ExpectHeader(ulong claimed)
    {
        if (claimed > SafetensorsHeader.MaxBytes)
        {
            throw new SnapshotFormatException($"The header's length is {claimed:N0} bytes; at most {SafetensorsHeader.MaxBytes:N0} are allowed.");
        }

        headerLength = (long)claimed;
        if (length - sizeof(ulong) < headerLength) throw new SnapshotFormatException($"The header's length is {headerLength:N0} bytes, which the file does not have.");
        return new ArrivingBytes((int)headerLength, isCertain);
    }

    private void ReadHeader(byte[] json)
    {
        header = SafetensorsHeader.Parse(json);
        var needed = sizeof(ulong) + headerLength + header.DataBytes;
        if (length is not null && length != needed)
        {
            throw new SnapshotFormatException($"The tensors take {header.DataBytes:N0} bytes, after the header there are {length - sizeof(ulong) - headerLength:N0}.");
        }

        if (needed > maximum) throw new SnapshotFormatException($"The snapshot takes {needed:N0} bytes; {maximum:N0} are allowed.");
        length = needed;
        content = SnapshotMetadata.IsIn(header) ? new OwnSnapshotContent(header, names?.Layout) : new PlainSnapshotContent(header, names);
    }

    /// <summary>The next part of the values; null where that was the last one.</summary>
    private ArrivingBytes? ExpectValues()
    {
        if (values.Count == 0 || part == values[^1].PartCount)
        {
            if (values.Count == header!.Tensors.Count) return null;
            var tensor = header.Tensors[values.Count];
            values.Add(TensorValues.Describe(tensor.End - tensor.Begin));
            part = 0;
        }

        return new ArrivingBytes(values[^1].LengthOf(part), isCertain);
    }
}
