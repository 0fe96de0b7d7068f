using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>The checks of arguments that all compressors make.</summary>
internal static class CompressorArguments
{
    /// <exception cref="ArgumentOutOfRangeException">It is not a value of the enumeration.</exception>
    public static void CheckDefined<T>(T value, string name)
        where T : struct, Enum
    {
        if (Enum.IsDefined(value)) return;
        throw new ArgumentOutOfRangeException(name, value, $"Must be one of {string.Join(", ", Enum.GetNames<T>())}.");
    }

    /// <exception cref="ArgumentNullException">The layout or the result is missing.</exception>
    /// <exception cref="ArgumentException">The vector does not have the layout's length.</exception>
    public static void CheckVector(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result)
    {
        ArgumentNullException.ThrowIfNull(layout);
        ArgumentNullException.ThrowIfNull(result);
        if (vector.Length != layout.Length)
        {
            throw new ArgumentException($"The vector has {vector.Length} coordinates, its layout {layout.Length}.", nameof(vector));
        }
    }
}
