using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>The names that the safetensors format gives to dtypes.</summary>
internal static class SafetensorsDType
{
    private static readonly Dictionary<string, DType> ByName = new()
    {
        ["BOOL"] = DType.Bool,
        ["U8"] = DType.Byte,
        ["I8"] = DType.Int8,
        ["I16"] = DType.Int16,
        ["F16"] = DType.Float16,
        ["BF16"] = DType.BFloat16,
        ["I32"] = DType.Int32,
        ["F32"] = DType.Float32,
        ["I64"] = DType.Int64,
        ["F64"] = DType.Float64,
        ["C64"] = DType.ComplexFloat32,
    };

    private static readonly Dictionary<DType, string> Names = ByName.ToDictionary(pair => pair.Value, pair => pair.Key);

    /// <summary>The name of a dtype that a model's layout can have.</summary>
    public static string NameOf(DType dtype) => Names[dtype];

    /// <summary>The dtype of a name.</summary>
    /// <exception cref="SnapshotFormatException">No dtype that a model here can have has this name.</exception>
    public static DType Parse(string name) => ByName.TryGetValue(name, out var dtype) ? dtype : throw new SnapshotFormatException(
        $"The dtype '{name}' is not known; it can be one of {string.Join(", ", ByName.Keys)}.");
}
