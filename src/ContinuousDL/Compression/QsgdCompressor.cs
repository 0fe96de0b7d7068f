using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using ContinuousDL.Memory;
using ContinuousDL.Randomness;
using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>
/// Sends every coordinate as one of a few levels: value = level · norm/s, with the tensor's L2 norm, levels from −s to s and
/// s = 2^q − 1 (Alistarh et al. 2017, "QSGD: Communication-efficient SGD via gradient quantization and encoding"). Takes
/// q + 1 bits for each coordinate and 32 for each tensor.
/// </summary>
/// <remarks>
/// <para>
/// The norm is computed in double precision and can't overflow. Where it is above the largest float32, a level is worth that
/// number divided by s instead of norm/s: no value is larger, and level s is finite. A value that is a level (zero always is)
/// keeps it. A tensor that is zero, or that holds a value that is not finite, has scale 0: nothing of it is sent.
/// </para>
/// <para>
/// The random numbers come from a counter and a key, the key drawn anew for each tensor and call: results don't depend on
/// how wide the processor's vectors are.
/// </para>
/// </remarks>
public sealed class QsgdCompressor : IGradientCompressor
{
    private readonly int maxLevel;
    private readonly int bits;
    private readonly QsgdRounding rounding;
    private RandomSource random;

    /// <summary>Quantizes to 2^q − 1 levels of either sign.</summary>
    /// <param name="q">The bits of a level without its sign: 1, 2, 4 or 8. Higher: larger updates, less noise.</param>
    /// <param name="rounding">How a value between two levels is rounded. Default: in the way that error feedback needs.</param>
    /// <param name="seed">Of the generator. Default 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public QsgdCompressor(int q, QsgdRounding rounding = QsgdRounding.Contractive, ulong seed = 0)
    {
        if (q is not (1 or 2 or 4 or 8)) throw new ArgumentOutOfRangeException(nameof(q), q, "q must be 1, 2, 4 or 8.");
        CompressorArguments.CheckDefined(rounding, nameof(rounding));
        maxLevel = (1 << q) - 1;
        bits = q + 1;
        this.rounding = rounding;
        random = new RandomSource(seed);
    }

    /// <inheritdoc/>
    public void Compress(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result)
    {
        CompressorArguments.CheckVector(vector, layout, result);
        result.SetQuantized(layout, bits);
        for (var t = 0; t < layout.TensorCount; t++)
        {
            var tensor = vector[layout[t]];
            var levels = result.Levels[layout[t]];
            var step = StepFor(Math.Sqrt(VectorSums.OfSquares(tensor)));
            if (step > 0) Quantize(tensor, step, levels);
            else levels.Clear();
            result.Scales[t] = rounding == QsgdRounding.Contractive ? (float)(step / Contraction(tensor.Length)) : step;
        }
    }

    string IStateful.StateKind => rounding == QsgdRounding.Nearest ? $"{nameof(QsgdCompressor)} that rounds to nearest" : nameof(QsgdCompressor);

    void IStateful.WriteState(BinaryWriter writer)
    {
        if (rounding != QsgdRounding.Nearest) random.Save(writer);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        if (rounding == QsgdRounding.Nearest) return static () => { };
        var read = RandomSource.Read(reader);
        return () => random = read;
    }

    /// <summary>
    /// What one level is worth before scaling down: norm/s rounded up, so that no value exceeds level s, but no more than
    /// leaves level s finite.
    /// </summary>
    private float StepFor(double norm)
    {
        if (!double.IsFinite(norm)) return 0;
        var step = (float)Math.Min(norm / maxLevel, float.MaxValue / maxLevel);
        if (step < norm / maxLevel) step = MathF.BitIncrement(step);
        while (float.IsInfinity(step * maxLevel)) step = MathF.BitDecrement(step);
        return step;
    }

    /// <summary>τ.</summary>
    private double Contraction(int n) => 1 + Math.Min(n / ((double)maxLevel * maxLevel), Math.Sqrt(n) / maxLevel);

    private void Quantize(ReadOnlySpan<float> tensor, float step, Span<short> levels)
    {
        var key = rounding == QsgdRounding.Nearest ? 0 : random.NextUInt64();
        var lanes = Vector512<short>.Count;
        var i = 0;
        for (; i <= tensor.Length - lanes; i += lanes)
        {
            Quantize(ref MemoryMarshal.GetReference(tensor[i..]), i, step, key).CopyTo(levels[i..]);
        }

        if (i == tensor.Length) return;

        Span<float> lastValues = stackalloc float[lanes];
        Span<short> lastLevels = stackalloc short[lanes];
        tensor[i..].CopyTo(lastValues);
        Quantize(ref MemoryMarshal.GetReference(lastValues), i, step, key).CopyTo(lastLevels);
        lastLevels[..(tensor.Length - i)].CopyTo(levels[i..]);
    }

    private Vector512<short> Quantize(ref float values, int coordinate, float step, ulong key) => Vector512.Narrow(
        Quantize(Vector512.LoadUnsafe(ref values), coordinate, step, key),
        Quantize(Vector512.LoadUnsafe(ref values, (nuint)Vector512<float>.Count), coordinate + Vector512<float>.Count, step, key));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Vector512<int> Quantize(Vector512<float> values, int coordinate, float step, ulong key)
    {
        // At most s but for the rounding of a step that was capped.
        var exact = Vector512.Min(Vector512.Abs(values) / Vector512.Create(step), Vector512.Create((float)maxLevel));
        var lower = Vector512.Floor(exact);
        var chance = rounding == QsgdRounding.Nearest ? Vector512.Create(0.5f) : Uniform(coordinate, key);

        // A comparison that holds gives −1 in every lane, and subtracting that adds the 1.
        var level = Vector512.ConvertToInt32(lower) - Vector512.GreaterThan(exact - lower, chance).AsInt32();
        var sign = Vector512.ShiftRightArithmetic(values.AsInt32(), 31);
        return (level ^ sign) - sign;
    }

    /// <summary>
    /// Numbers in [0, 1] for 16 coordinates: the coordinate goes through a mixing of its bits (two rounds of multiply and
    /// xor-shift, as in the finalizers of MurmurHash3) that both halves of the key enter.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Uniform(int coordinate, ulong key)
    {
        var x = Vector512.CreateSequence((uint)coordinate, 1u) + Vector512.Create((uint)key);
        x = (x ^ (x >>> 16)) * 0x7feb352du;
        x ^= Vector512.Create((uint)(key >> 32));
        x = (x ^ (x >>> 15)) * 0x846ca68bu;
        x ^= x >>> 16;
        return Vector512.ConvertToSingle((x >>> 1).AsInt32()) * (1f / (1u << 31));
    }
}
