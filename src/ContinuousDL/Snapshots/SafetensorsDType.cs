using static TorchSharp.torch;

namespace ContinuousDL.Snapshots;

/// <summary>The names that the safetensors format gives to dtypes.</summary>
internal static class SafetensorsDType
{
    private static readonly Dictionary<string, ScalarType> ByName = new()
    {
        ["BOOL"] = ScalarType.Bool,
        ["U8"] = ScalarType.Byte,
        ["I8"] = ScalarType.Int8,
        ["I16"] = ScalarType.Int16,
        ["F16"] = ScalarType.Float16,
        ["BF16"] = ScalarType.BFloat16,
        ["I32"] = ScalarType.Int32,
        ["F32"] = ScalarType.Float32,
        ["I64"] = ScalarType.Int64,
        ["F64"] = ScalarType.Float64,
        ["C64"] = ScalarType.ComplexFloat32,
    };

    private static readonly Dictionary<ScalarType, string> Names = ByName.ToDictionary(pair => pair.Value, pair => pair.Key);

    /// <summary>The name of a dtype that a model's layout can have.</summary>
    public static string NameOf(ScalarType dtype) => Names[dtype];

    /// <summary>The dtype of a name.</summary>
    /// <exception cref="SnapshotFormatException">No dtype that a model here can have has this name.</exception>
    public static ScalarType Parse(string name) => ByName.TryGetValue(name, out var dtype) ? dtype : throw new SnapshotFormatException(
        $"The dtype '{name}' is not known; it can be one of {string.Join(", ", ByName.Keys)}.");
}
