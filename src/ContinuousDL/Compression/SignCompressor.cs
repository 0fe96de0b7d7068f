using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using ContinuousDL.Memory;
using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>
/// Sends the sign of every coordinate, scaled by the mean magnitude: sign(x) · ‖x‖₁/n (Karimireddy et al. 2019, "Error
/// feedback fixes SignSGD and other gradient compression schemes", the scaled sign operator). Takes 1 bit for each coordinate
/// and 32 for each scale.
/// </summary>
/// <remarks>
/// One bit has no place for zero: the sign of zero is + (of −0 too). The mean is computed in double precision. A tensor that is
/// zero, or that holds a value that is not finite, has scale 0: nothing of it is sent. Biased, and made for use with an
/// error feedback memory.
/// </remarks>
public sealed class SignCompressor : IGradientCompressor
{
    private readonly CompressionScope scope;
    private VectorLayout whole = new(0);

    /// <summary>Sends signs.</summary>
    /// <param name="scope">
    /// Whether each tensor has a scale of its own (default, as in the paper) or the whole model one;
    /// <see cref="CompressedGradient.Scales"/> then has one element.
    /// </param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="scope"/> is not a value of its enumeration.</exception>
    public SignCompressor(CompressionScope scope = CompressionScope.PerTensor)
    {
        CompressorArguments.CheckDefined(scope, nameof(scope));
        this.scope = scope;
    }

    /// <inheritdoc/>
    public void Compress(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result)
    {
        CompressorArguments.CheckVector(vector, layout, result);
        if (scope == CompressionScope.WholeModel)
        {
            if (whole.Length != vector.Length) whole = new VectorLayout(vector.Length);
            layout = whole;
        }

        result.SetQuantized(layout, 1);
        Signs(vector, result.Levels);
        for (var t = 0; t < layout.TensorCount; t++)
        {
            var tensor = vector[layout[t]];
            var mean = VectorSums.OfMagnitudes(tensor) / tensor.Length;
            result.Scales[t] = double.IsFinite(mean) ? (float)mean : 0;
        }
    }

    private static void Signs(ReadOnlySpan<float> vector, Span<short> levels)
    {
        var lanes = Vector512<short>.Count;
        var i = 0;
        for (; i <= vector.Length - lanes; i += lanes)
        {
            ref var values = ref MemoryMarshal.GetReference(vector[i..]);
            Vector512.Narrow(Signs(ref values), Signs(ref Unsafe.Add(ref values, lanes / 2))).CopyTo(levels[i..]);
        }

        for (; i < vector.Length; i++) levels[i] = (short)(vector[i] < 0 ? -1 : 1);
    }

    /// <summary>A comparison that holds gives −1, one that doesn't 0, which the lowest bit makes 1.</summary>
    private static Vector512<int> Signs(ref float values) =>
        Vector512.LessThan(Vector512.LoadUnsafe(ref values), default).AsInt32() | Vector512<int>.One;
}
