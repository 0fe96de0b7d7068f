using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>
/// The facts about a snapshot that the safetensors format doesn't know, in the metadata of the file: of which run, at which sequence, with
/// which digest. docs/wire-format.md describes it.
/// </summary>
/// <remarks>
/// The format lists tensors by name, not in an order: <c>continuousdl.tensors</c>, a JSON array of [name, kind], is the order of
/// the coordinates.
/// </remarks>
internal sealed partial class SnapshotMetadata
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

    private SnapshotMetadata(ModelLayout layout, Guid runId, long sequence, ulong digest, byte[] signature)
    {
        Layout = layout;
        RunId = runId;
        Sequence = sequence;
        Digest = digest;
        Signature = signature;
    }

    public ModelLayout Layout { get; }

    public Guid RunId { get; }

    public long Sequence { get; }

    public ulong Digest { get; }

    /// <summary>The signature; empty without one.</summary>
    public byte[] Signature { get; }

    /// <summary>The metadata of a snapshot.</summary>
    public static IEnumerable<KeyValuePair<string, string>> Of(ModelSnapshot snapshot)
    {
        string[][] order = [.. snapshot.Layout.Entries.Select(e => new[] { e.Name, e.Kind == CoordinateKind.Parameter ? Parameter : Buffer })];

        // Readers of the PyTorch world ask for this one.
        yield return new("format", "pt");
        yield return new(VersionKey, Version);
        yield return new(FingerprintKey, snapshot.Layout.Fingerprint.ToString("x32", CultureInfo.InvariantCulture));
        yield return new(RunKey, snapshot.RunId.ToString("D"));
        yield return new(SequenceKey, snapshot.Sequence.ToString(CultureInfo.InvariantCulture));
        yield return new(DigestKey, snapshot.StateDigest.ToString("x16", CultureInfo.InvariantCulture));
        yield return new(TensorsKey, JsonSerializer.Serialize(order, Json.Default.StringArrayArray));
        if (snapshot.IsSigned) yield return new(SignatureKey, Convert.ToHexStringLower(snapshot.Signature.Span));
    }

    /// <summary>Whether a file is a snapshot of this library.</summary>
    public static bool IsIn(SafetensorsHeader header) => header.Metadata.ContainsKey(VersionKey);

    /// <summary>Reads the metadata of a snapshot.</summary>
    /// <exception cref="SnapshotFormatException">It is not valid.</exception>
    public static SnapshotMetadata Parse(SafetensorsHeader header)
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

        return new SnapshotMetadata(
            layout,
            Parse(header, RunKey, (string s, out Guid v) => Guid.TryParseExact(s, "D", out v)),
            Parse(header, SequenceKey, (string s, out long v) => long.TryParse(s, NumberStyles.None, CultureInfo.InvariantCulture, out v)),
            Parse(header, DigestKey, (string s, out ulong v) => ulong.TryParse(s, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out v)),
            header.Metadata.ContainsKey(SignatureKey) ? Parse<byte[]>(header, SignatureKey, TryParseHex) : []);
    }

    /// <summary>The layout that the metadata describes.</summary>
    private static ModelLayout LayoutOf(SafetensorsHeader header)
    {
        string[][] order;
        try
        {
            order = JsonSerializer.Deserialize(Text(header, TensorsKey), Json.Default.StringArrayArray) ?? [];
        }
        catch (JsonException e)
        {
            throw new SnapshotFormatException($"The metadata '{TensorsKey}' is no array of [name, kind]: {e.Message}", e);
        }

        var tensors = header.Tensors.ToDictionary(t => t.Name);
        var described = new List<TensorDescription>();
        foreach (var item in order)
        {
            if (item is not [{ } name, Parameter or Buffer] || !tensors.Remove(name, out var tensor))
            {
                throw new SnapshotFormatException($"The metadata '{TensorsKey}' must name each tensor of the file once, with its kind, {Parameter} or {Buffer}.");
            }

            described.Add(new TensorDescription(name, item[1] == Parameter ? CoordinateKind.Parameter : CoordinateKind.Buffer, tensor.DType, tensor.Shape));
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

    private static bool TryParseHex(string text, out byte[] bytes)
    {
        bytes = [];
        if (text.Length == 0 || text.Length % 2 != 0 || !text.All(char.IsAsciiHexDigit)) return false;
        bytes = Convert.FromHexString(text);
        return true;
    }

    private static string Text(SafetensorsHeader header, string key) => header.Metadata.TryGetValue(key, out var text) ? text
        : throw new SnapshotFormatException($"The snapshot's metadata lacks '{key}'.");

    private static T Parse<T>(SafetensorsHeader header, string key, TryParse<T> parse) => parse(Text(header, key), out var value) ? value
        : throw new SnapshotFormatException($"The snapshot's metadata '{key}' is '{Text(header, key)}', which can't be read.");

    private delegate bool TryParse<T>(string text, out T value);

    /// <summary>Made at compile time, since reflection may be off: trimming and ahead-of-time compilation switch it off.</summary>
    [JsonSerializable(typeof(string[][]))]
    private sealed partial class Json : JsonSerializerContext;
}
