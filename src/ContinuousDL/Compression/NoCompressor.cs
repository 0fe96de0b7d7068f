using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>Sends everything as it is: the dense baseline.</summary>
public sealed class NoCompressor : IGradientCompressor
{
    /// <inheritdoc/>
    public void Compress(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result)
    {
        CompressorArguments.CheckVector(vector, layout, result);
        result.SetDense(vector.Length);
        vector.CopyTo(result.Values);
    }
}
