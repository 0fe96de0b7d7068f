namespace ContinuousDL.Vectors;

/// <summary>How a <see cref="CompressedGradient"/> holds its values.</summary>
public enum CompressedForm
{
    /// <summary>k coordinates and their values; all others are zero.</summary>
    Sparse,

    /// <summary>A small signed integer level for each coordinate and one scale for each tensor.</summary>
    Quantized,

    /// <summary>A value for each coordinate.</summary>
    Dense,
}
