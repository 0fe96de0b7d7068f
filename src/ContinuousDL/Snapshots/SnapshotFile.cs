using System.Buffers.Binary;
using System.Globalization;
using System.Text.Json;
using ContinuousDL.Deployment;
using ContinuousDL.Parameters;
using static TorchSharp.torch;

namespace ContinuousDL.Snapshots;

/// <summary>Writes and reads snapshots as safetensors, with what the format doesn't know of in its metadata.</summary>
/// <remarks>
/// The format lists tensors by name, not in an order: <c>continuousdl.tensors</c>, a JSON array of [name, kind], is the order of
/// the coordinates.
/// </remarks>
internal static class SnapshotFile
{
    private const string Version = "1";
    private const string VersionKey = "continuousdl.version";
    private const string FingerprintKey = "continuousdl.fingerprint";
    private const string RunKey = "continuousdl.run";
    private const string SequenceKey = "continuousdl.sequence";
    private const string DigestKey = "continuousdl.digest";
    private const string TensorsKey = "continuousdl.tensors";
    private const string SignatureKey = "continuousdl.signature";
    private const string Parameter = "parameter";
    private const string Buffer = "buffer";

    /// <summary>The most that is allocated before the bytes for it have arrived, where the length of the source isn't known.</summary>
    private const int FirstAllocation = 1 << 20;

    /// <summary>Writes a snapshot.</summary>
    /// <exception cref="NotSupportedException">The format can't hold its names.</exception>
    public static void Write(Stream stream, ModelSnapshot snapshot)
    {
        // As the reference implementation orders them: the widest elements first, so that all lie aligned.
        var entries = snapshot.Layout.Entries;
        var order = Enumerable.Range(0, entries.Count)
            .OrderByDescending(i => entries[i].ElementSize)
            .ThenBy(i => entries[i].Name, StringComparer.Ordinal)
            .ToArray();
        var position = 0L;
        var tensors = new List<SafetensorsTensor>();
        foreach (var i in order)
        {
            var end = position + snapshot.Values(i).Length;
            tensors.Add(new SafetensorsTensor(entries[i].Name, entries[i].DType, [.. entries[i].Shape], position, end));
            position = end;
        }

        var header = SafetensorsHeader.Format(tensors, Metadata(snapshot));
        Span<byte> length = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(length, (ulong)header.Length);
        stream.Write(length);
        stream.Write(header);
        foreach (var i in order) stream.Write(snapshot.Values(i));
    }

    /// <summary>Reads a snapshot.</summary>
    /// <param name="stream">The whole of a safetensors file, to its end.</param>
    /// <param name="layout">The layout that it must have; null to take it from the metadata.</param>
    /// <exception cref="SnapshotFormatException">It is not valid.</exception>
    /// <exception cref="ModelMismatchException">It is not of that layout.</exception>
    public static ModelSnapshot Read(Stream stream, ModelLayout? layout)
    {
        try
        {
            var header = ReadHeader(stream);
            return header.Metadata.ContainsKey(VersionKey) ? ReadOwn(stream, header, layout) : ReadPlain(stream, header, layout);
        }
        catch (EndOfStreamException e)
        {
            throw new SnapshotFormatException("The snapshot is cut off.", e);
        }
    }

    private static IEnumerable<KeyValuePair<string, string>> Metadata(ModelSnapshot snapshot) =>
    [
        // Readers of the PyTorch world ask for this one.
        new("format", "pt"),
        new(VersionKey, Version),
        new(FingerprintKey, snapshot.Layout.Fingerprint.ToString("x32", CultureInfo.InvariantCulture)),
        new(RunKey, snapshot.RunId.ToString("D")),
        new(SequenceKey, snapshot.Sequence.ToString(CultureInfo.InvariantCulture)),
        new(DigestKey, snapshot.StateDigest.ToString("x16", CultureInfo.InvariantCulture)),
        new(TensorsKey, JsonSerializer.Serialize(
            snapshot.Layout.Entries.Select(e => new[] { e.Name, e.Kind == CoordinateKind.Parameter ? Parameter : Buffer }))),
        .. snapshot.IsSigned ? [new KeyValuePair<string, string>(SignatureKey, Convert.ToHexStringLower(snapshot.Signature.Span))] : Array.Empty<KeyValuePair<string, string>>(),
    ];

    private static SafetensorsHeader ReadHeader(Stream stream)
    {
        long? rest = stream.CanSeek ? stream.Length - stream.Position : null;
        Span<byte> prefix = stackalloc byte[sizeof(ulong)];
        stream.ReadExactly(prefix);
        var length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (length > SafetensorsHeader.MaxBytes)
        {
            throw new SnapshotFormatException($"The header's length is {length:N0} bytes; at most {SafetensorsHeader.MaxBytes:N0} are allowed.");
        }

        if (rest - sizeof(ulong) < (long)length) throw new SnapshotFormatException($"The header's length is {length:N0} bytes, which the file does not have.");
        var header = SafetensorsHeader.Parse(ReadBytes(stream, (int)length, known: rest is not null));
        if (rest is not null && rest - sizeof(ulong) - (long)length != header.DataBytes)
        {
            throw new SnapshotFormatException(
                $"The tensors take {header.DataBytes:N0} bytes, after the header there are {rest - sizeof(ulong) - (long)length:N0}.");
        }

        return header;
    }

    private static ModelSnapshot ReadOwn(Stream stream, SafetensorsHeader header, ModelLayout? expected)
    {
        if (Text(header, VersionKey) is var version and not Version)
        {
            throw new SnapshotFormatException($"The snapshot's metadata is of version '{version}'; this library reads version {Version}.");
        }

        var layout = LayoutOf(header);
        var fingerprint = Parse(header, FingerprintKey, (string s, out UInt128 v) => UInt128.TryParse(s, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out v));
        if (fingerprint != layout.Fingerprint)
        {
            throw new SnapshotFormatException($"The tensors have the fingerprint {layout.Fingerprint:x32}, the metadata says {fingerprint:x32}.");
        }

        if (expected?.FirstDifference(layout) is { } difference)
        {
            throw new ModelMismatchException($"The snapshot is of a model of another architecture. {difference}");
        }

        var run = Parse(header, RunKey, (string s, out Guid v) => Guid.TryParseExact(s, "D", out v));
        var sequence = Parse(header, SequenceKey, (string s, out long v) => long.TryParse(s, NumberStyles.None, CultureInfo.InvariantCulture, out v));
        var digest = Parse(header, DigestKey, (string s, out ulong v) => ulong.TryParse(s, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out v));
        var snapshot = new ModelSnapshot(layout, ReadValues(stream, header, layout), run, sequence);
        if (snapshot.StateDigest != digest)
        {
            throw new SnapshotFormatException($"The values have the digest {snapshot.StateDigest:x16}, the metadata says {digest:x16}: the snapshot is damaged.");
        }

        return header.Metadata.ContainsKey(SignatureKey) ? snapshot.WithSignature(Parse<byte[]>(header, SignatureKey, TryParseHex)) : snapshot;
    }

    private static ModelSnapshot ReadPlain(Stream stream, SafetensorsHeader header, ModelLayout? layout)
    {
        if (layout is null)
        {
            throw new SnapshotFormatException("The file does not say the order of its tensors, as one that this library did not write: load it for a module.");
        }

        var tensors = header.Tensors.ToDictionary(t => t.Name);
        foreach (var entry in layout.Entries)
        {
            if (!tensors.Remove(entry.Name, out var tensor)) throw new ModelMismatchException($"The file has no tensor for the module's {entry}.");
            if (entry.DType != tensor.DType || !entry.Shape.SequenceEqual(tensor.Shape))
            {
                throw new ModelMismatchException($"The file's tensor '{tensor.Name}' is {tensor.DType}[{string.Join(", ", tensor.Shape)}], the module's is {entry}.");
            }
        }

        if (tensors.Count > 0) throw new ModelMismatchException($"The file's tensor '{tensors.Keys.First()}' is not in the module.");
        return new ModelSnapshot(layout, ReadValues(stream, header, layout), Guid.Empty, 0);
    }

    private static bool TryParseHex(string text, out byte[] bytes)
    {
        bytes = [];
        if (text.Length == 0 || text.Length % 2 != 0 || !text.All(char.IsAsciiHexDigit)) return false;
        bytes = Convert.FromHexString(text);
        return true;
    }

    /// <summary>The layout that the metadata describes.</summary>
    private static ModelLayout LayoutOf(SafetensorsHeader header)
    {
        string[][] order;
        try
        {
            order = JsonSerializer.Deserialize<string[][]>(Text(header, TensorsKey)) ?? [];
        }
        catch (JsonException e)
        {
            throw new SnapshotFormatException($"The metadata '{TensorsKey}' is no array of [name, kind]: {e.Message}", e);
        }

        var tensors = header.Tensors.ToDictionary(t => t.Name);
        var described = new List<(string, CoordinateKind, ScalarType, long[])>();
        foreach (var item in order)
        {
            if (item is not [{ } name, Parameter or Buffer] || !tensors.Remove(name, out var tensor))
            {
                throw new SnapshotFormatException($"The metadata '{TensorsKey}' must name each tensor of the file once, with its kind, {Parameter} or {Buffer}.");
            }

            described.Add((name, item[1] == Parameter ? CoordinateKind.Parameter : CoordinateKind.Buffer, tensor.DType, tensor.Shape));
        }

        if (tensors.Count > 0) throw new SnapshotFormatException($"The metadata '{TensorsKey}' does not name the tensor '{tensors.Keys.First()}'.");
        try
        {
            return ModelLayout.Of(described);
        }
        catch (NotSupportedException e)
        {
            throw new SnapshotFormatException(e.Message, e);
        }
    }

    private static byte[][] ReadValues(Stream stream, SafetensorsHeader header, ModelLayout layout)
    {
        var index = layout.Entries.Select((entry, i) => (entry.Name, i)).ToDictionary(pair => pair.Name, pair => pair.i);
        var values = new byte[layout.Entries.Count][];
        foreach (var tensor in header.Tensors)
        {
            var length = tensor.End - tensor.Begin;
            if (length > Array.MaxLength) throw new SnapshotFormatException($"The tensor '{tensor.Name}' takes {length:N0} bytes; at most {Array.MaxLength:N0} can be read.");
            values[index[tensor.Name]] = ReadBytes(stream, (int)length, stream.CanSeek);
        }

        return stream.ReadByte() < 0 ? values : throw new SnapshotFormatException("There is something after the last tensor's values.");
    }

    /// <summary>Reads bytes; where it isn't known that there are that many, memory grows with what has arrived.</summary>
    private static byte[] ReadBytes(Stream stream, int length, bool known)
    {
        var bytes = GC.AllocateUninitializedArray<byte>(known ? length : Math.Min(length, FirstAllocation));
        stream.ReadExactly(bytes);
        while (bytes.Length < length)
        {
            var read = bytes.Length;
            Array.Resize(ref bytes, (int)Math.Min(length, 2L * read));
            stream.ReadExactly(bytes.AsSpan(read));
        }

        return bytes;
    }

    private static string Text(SafetensorsHeader header, string key) => header.Metadata.TryGetValue(key, out var text) ? text
        : throw new SnapshotFormatException($"The snapshot's metadata lacks '{key}'.");

    private static T Parse<T>(SafetensorsHeader header, string key, TryParse<T> parse) => parse(Text(header, key), out var value) ? value
        : throw new SnapshotFormatException($"The snapshot's metadata '{key}' is '{Text(header, key)}', which can't be read.");

    private delegate bool TryParse<T>(string text, out T value);
}
