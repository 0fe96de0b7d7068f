using System.Text.Json;
using System.Text.Unicode;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>A tensor of a safetensors file.</summary>
/// <param name="Name">Its name.</param>
/// <param name="DType">Its dtype.</param>
/// <param name="Shape">Its shape.</param>
/// <param name="Begin">Where its values begin, in bytes from the end of the header.</param>
/// <param name="End">Where they end.</param>
internal sealed record SafetensorsTensor(string Name, DType DType, long[] Shape, long Begin, long End);

/// <summary>
/// The header of a safetensors file: which tensors it has, and where. The format is 8 bytes with the length of the header,
/// the header, a JSON object, and the tensors' values one after the other.
/// </summary>
/// <remarks>
/// Everything is validated here, as the format's reference implementation does: what is left to a reader of the values is that
/// there are <see cref="DataBytes"/> of them.
/// </remarks>
internal sealed class SafetensorsHeader
{
    /// <summary>The most bytes that a header may have; the reference implementation's limit.</summary>
    public const int MaxBytes = 100_000_000;

    /// <summary>The key of what is not a tensor.</summary>
    public const string MetadataKey = "__metadata__";

    private SafetensorsHeader(SafetensorsTensor[] tensors, Dictionary<string, string> metadata)
    {
        Tensors = tensors;
        Metadata = metadata;
        DataBytes = tensors.Length == 0 ? 0 : tensors[^1].End;
    }

    /// <summary>The tensors, in the order of their values.</summary>
    public IReadOnlyList<SafetensorsTensor> Tensors { get; }

    /// <summary>Everything else that the file says.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>How many bytes of values follow the header.</summary>
    public long DataBytes { get; }

    /// <summary>Reads a header.</summary>
    /// <param name="json">Its bytes, without the length before it.</param>
    /// <exception cref="SnapshotFormatException">It is not valid.</exception>
    public static SafetensorsHeader Parse(ReadOnlySpan<byte> json)
    {
        if (json.IsEmpty || json[0] != '{') throw new SnapshotFormatException("The header does not begin with '{'.");
        if (!Utf8.IsValid(json)) throw new SnapshotFormatException("The header is not valid UTF-8.");
        try
        {
            var reader = new Utf8JsonReader(json);
            var metadata = new Dictionary<string, string>();
            var tensors = new List<SafetensorsTensor>();
            var seen = new HashSet<string>();
            reader.Read();
            while (NextKey(ref reader) is { } key)
            {
                if (!seen.Add(key)) throw new SnapshotFormatException($"The key '{key}' is there twice.");
                if (key == MetadataKey) ReadMetadata(ref reader, metadata);
                else tensors.Add(ReadTensor(ref reader, key));
            }

            // What follows the object may be spaces alone, which the reader skips; it throws at anything else.
            if (reader.Read()) throw new SnapshotFormatException("There is something after the header's object.");
            var ordered = tensors.OrderBy(t => t.Begin).ThenBy(t => t.End).ToArray();
            CheckOffsets(ordered);
            return new SafetensorsHeader(ordered, metadata);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // The reader throws InvalidOperationException where an escape in a string stands for half a character.
            throw new SnapshotFormatException($"The header is not valid JSON: {e.Message}", e);
        }
    }

    /// <summary>Writes a header, filled up with spaces to a multiple of 8 bytes so that values lie aligned.</summary>
    /// <param name="tensors">The tensors, in the order of their values.</param>
    /// <param name="metadata">Everything else that the file is to say.</param>
    /// <returns>The header's bytes, without the length before it.</returns>
    /// <exception cref="NotSupportedException">Two tensors have the same name or one has a reserved name, or there are too many for the format.</exception>
    public static byte[] Format(IEnumerable<SafetensorsTensor> tensors, IEnumerable<KeyValuePair<string, string>> metadata)
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            writer.WriteStartObject(MetadataKey);
            foreach (var (key, value) in metadata) writer.WriteString(key, value);
            writer.WriteEndObject();
            var seen = new HashSet<string> { MetadataKey };
            foreach (var tensor in tensors)
            {
                if (!seen.Add(tensor.Name))
                {
                    throw new NotSupportedException($"The name '{tensor.Name}' is reserved, or two tensors of the model have it: the safetensors format can't hold it.");
                }

                writer.WriteStartObject(tensor.Name);
                writer.WriteString("dtype", SafetensorsDType.NameOf(tensor.DType));
                writer.WriteStartArray("shape");
                foreach (var size in tensor.Shape) writer.WriteNumberValue(size);
                writer.WriteEndArray();
                writer.WriteStartArray("data_offsets");
                writer.WriteNumberValue(tensor.Begin);
                writer.WriteNumberValue(tensor.End);
                writer.WriteEndArray();
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
        }

        while (buffer.Length % 8 != 0) buffer.WriteByte((byte)' ');
        return buffer.Length <= MaxBytes ? buffer.ToArray() : throw new NotSupportedException(
            $"The names and shapes of the tensors take {buffer.Length:N0} bytes; the safetensors format allows {MaxBytes:N0}.");
    }

    private static string? NextKey(ref Utf8JsonReader reader)
    {
        reader.Read();
        if (reader.TokenType == JsonTokenType.EndObject) return null;
        var key = reader.GetString()!;
        reader.Read();
        return key;
    }

    private static void ReadMetadata(ref Utf8JsonReader reader, Dictionary<string, string> metadata)
    {
        Expect(reader, JsonTokenType.StartObject, MetadataKey);
        while (NextKey(ref reader) is { } key)
        {
            Expect(reader, JsonTokenType.String, key);
            if (!metadata.TryAdd(key, reader.GetString()!)) throw new SnapshotFormatException($"The metadata '{key}' is there twice.");
        }
    }

    private static SafetensorsTensor ReadTensor(ref Utf8JsonReader reader, string name)
    {
        Expect(reader, JsonTokenType.StartObject, name);
        DType? dtype = null;
        long[]? shape = null;
        long[]? offsets = null;
        while (NextKey(ref reader) is { } key)
        {
            if (key is not ("dtype" or "shape" or "data_offsets"))
            {
                reader.Skip();
                continue;
            }

            var again = key switch { "dtype" => dtype is not null, "shape" => shape is not null, _ => offsets is not null };
            if (again) throw new SnapshotFormatException($"The tensor '{name}' has '{key}' twice.");
            if (key == "dtype")
            {
                Expect(reader, JsonTokenType.String, key);
                dtype = SafetensorsDType.Parse(reader.GetString()!);
            }
            else if (key == "shape")
            {
                shape = ReadNumbers(ref reader, name);
            }
            else
            {
                offsets = ReadNumbers(ref reader, name);
            }
        }

        if (dtype is null || shape is null || offsets is not [var begin, var end])
        {
            throw new SnapshotFormatException($"The tensor '{name}' needs a dtype, a shape, and two offsets.");
        }

        var bytes = BytesOf(name, dtype.Value, shape);
        if (end < begin || end - begin != bytes)
        {
            throw new SnapshotFormatException($"The tensor '{name}' takes {bytes:N0} bytes by its dtype and shape, its offsets are {begin} and {end}.");
        }

        return new SafetensorsTensor(name, dtype.Value, shape, begin, end);
    }

    private static long[] ReadNumbers(ref Utf8JsonReader reader, string tensor)
    {
        Expect(reader, JsonTokenType.StartArray, tensor);
        var numbers = new List<long>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out var number) || number < 0)
            {
                throw new SnapshotFormatException($"The tensor '{tensor}' has a size or offset that is no whole number from 0 to {long.MaxValue}.");
            }

            numbers.Add(number);
        }

        return [.. numbers];
    }

    private static long BytesOf(string tensor, DType dtype, long[] shape)
    {
        long bytes = Scalars.SizeOf(dtype);
        foreach (var size in shape)
        {
            if (size > 0 && bytes > long.MaxValue / size) throw new SnapshotFormatException($"The tensor '{tensor}' has a shape too large to count its elements.");
            bytes *= size;
        }

        return bytes;
    }

    private static void CheckOffsets(SafetensorsTensor[] ordered)
    {
        var position = 0L;
        foreach (var tensor in ordered)
        {
            if (tensor.Begin != position)
            {
                throw new SnapshotFormatException(
                    $"The values of '{tensor.Name}' begin at {tensor.Begin}, those before end at {position}: there may be no hole and no overlap.");
            }

            position = tensor.End;
        }
    }

    private static void Expect(in Utf8JsonReader reader, JsonTokenType token, string key)
    {
        if (reader.TokenType != token) throw new SnapshotFormatException($"The header has {reader.TokenType} where '{key}' needs {token}.");
    }
}
