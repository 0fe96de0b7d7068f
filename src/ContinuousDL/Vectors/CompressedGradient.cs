using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace ContinuousDL.Vectors;

/// <summary>
/// What a compressor made of a vector: the part that is sent. It can add itself to a dense vector, subtract itself from one,
/// and knows its size in bits.
/// </summary>
/// <remarks>
/// One instance is filled again at every step and keeps its arrays, so that a steady state allocates nothing. What its spans
/// show is valid until it is filled the next time. Not thread-safe.
/// </remarks>
public sealed class CompressedGradient
{
    private int[] indices = [];
    private float[] values = [];
    private short[] levels = [];
    private float[] scales = [];
    private VectorLayout layout = new();
    private int bitsPerLevel;

    /// <summary>How the values are held.</summary>
    public CompressedForm Form { get; private set; }

    /// <summary>The number of coordinates of the vector, n.</summary>
    public int Length { get; private set; }

    /// <summary>The number of coordinates that are carried: k for <see cref="CompressedForm.Sparse"/>, otherwise n.</summary>
    public int Count { get; private set; }

    /// <summary>The coordinates carried, ascending and distinct. Empty unless <see cref="CompressedForm.Sparse"/>.</summary>
    public Span<int> Indices => Form == CompressedForm.Sparse ? indices.AsSpan(0, Count) : [];

    /// <summary>The values carried, in the order of the coordinates. Empty when <see cref="CompressedForm.Quantized"/>.</summary>
    public Span<float> Values => Form == CompressedForm.Quantized ? [] : values.AsSpan(0, Count);

    /// <summary>The level of each coordinate. Empty unless <see cref="CompressedForm.Quantized"/>.</summary>
    public Span<short> Levels => Form == CompressedForm.Quantized ? levels.AsSpan(0, Count) : [];

    /// <summary>What one level is worth, for each tensor: value = level · scale. Empty unless <see cref="CompressedForm.Quantized"/>.</summary>
    public Span<float> Scales => Form == CompressedForm.Quantized ? scales.AsSpan(0, layout.TensorCount) : [];

    /// <summary>
    /// The size in bits, before any coding: 32 for each index and value (<see cref="CompressedForm.Sparse"/>), the bits of a
    /// level for each coordinate and 32 for each scale (<see cref="CompressedForm.Quantized"/>), 32 for each coordinate
    /// (<see cref="CompressedForm.Dense"/>).
    /// </summary>
    public long SizeInBits => Form switch
    {
        CompressedForm.Sparse => 64L * Count,
        CompressedForm.Quantized => (long)bitsPerLevel * Count + 32L * layout.TensorCount,
        _ => 32L * Count,
    };

    /// <summary>
    /// Makes this a sparse vector of <paramref name="count"/> coordinates; the caller then fills <see cref="Indices"/>
    /// (ascending, distinct) and <see cref="Values"/>. What they held before is kept as far as it fits, so that a caller may
    /// fill more than it needs first and then cut down.
    /// </summary>
    /// <param name="length">The number of coordinates of the vector, n.</param>
    /// <param name="count">The number carried, k.</param>
    /// <exception cref="ArgumentOutOfRangeException">Not 0 ≤ k ≤ n.</exception>
    public void SetSparse(int length, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, length);
        EnsureCapacity(ref indices, count);
        EnsureCapacity(ref values, count);
        (Form, Length, Count) = (CompressedForm.Sparse, length, count);
    }

    /// <summary>Makes this a dense vector; the caller then fills <see cref="Values"/>, which keep what they held as far as it fits.</summary>
    /// <param name="length">The number of coordinates, n.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="length"/> is negative.</exception>
    public void SetDense(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        EnsureCapacity(ref values, length);
        (Form, Length, Count) = (CompressedForm.Dense, length, length);
    }

    /// <summary>Makes this a quantized vector; the caller then fills <see cref="Levels"/> and <see cref="Scales"/>.</summary>
    /// <param name="vectorLayout">The tensors of the vector.</param>
    /// <param name="bits">The bits that a level takes, its sign included: 1 to 16.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="bits"/> is not in 1 to 16.</exception>
    public void SetQuantized(VectorLayout vectorLayout, int bits)
    {
        ArgumentNullException.ThrowIfNull(vectorLayout);
        ArgumentOutOfRangeException.ThrowIfLessThan(bits, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(bits, 16);
        EnsureCapacity(ref levels, vectorLayout.Length);
        EnsureCapacity(ref scales, vectorLayout.TensorCount);
        layout = vectorLayout;
        bitsPerLevel = bits;
        (Form, Length, Count) = (CompressedForm.Quantized, vectorLayout.Length, vectorLayout.Length);
    }

    /// <summary>Turns a quantized vector into a dense one with the same values. Others stay as they are.</summary>
    public void Dequantize()
    {
        if (Form != CompressedForm.Quantized) return;
        EnsureCapacity(ref values, Count);
        CopyTo(values.AsSpan(0, Count));
        Form = CompressedForm.Dense;
    }

    /// <summary>Writes the whole vector, zeros included.</summary>
    /// <param name="destination">Receives n values.</param>
    /// <exception cref="ArgumentException"><paramref name="destination"/> does not have n elements.</exception>
    public void CopyTo(Span<float> destination)
    {
        CheckLength(destination, nameof(destination));
        if (Form == CompressedForm.Dense)
        {
            Values.CopyTo(destination);
            return;
        }

        destination.Clear();
        AddTo(destination);
    }

    /// <summary>Adds this to a dense vector.</summary>
    /// <param name="destination">The n values to add to.</param>
    /// <exception cref="ArgumentException"><paramref name="destination"/> does not have n elements.</exception>
    public void AddTo(Span<float> destination)
    {
        CheckLength(destination, nameof(destination));
        switch (Form)
        {
            case CompressedForm.Sparse:
                for (var j = 0; j < Count; j++) destination[indices[j]] += values[j];
                break;
            case CompressedForm.Dense:
                TensorPrimitives.Add(destination, Values, destination);
                break;
            default:
                for (var t = 0; t < layout.TensorCount; t++) AddScaled(levels.AsSpan(layout[t]), scales[t], destination[layout[t]]);
                break;
        }
    }

    /// <summary>Subtracts this from a dense vector: what remains is what was not sent.</summary>
    /// <param name="destination">The n values to subtract from.</param>
    /// <exception cref="ArgumentException"><paramref name="destination"/> does not have n elements.</exception>
    public void SubtractFrom(Span<float> destination)
    {
        CheckLength(destination, nameof(destination));
        switch (Form)
        {
            case CompressedForm.Sparse:
                for (var j = 0; j < Count; j++) destination[indices[j]] -= values[j];
                break;
            case CompressedForm.Dense:
                TensorPrimitives.Subtract(destination, Values, destination);
                break;
            default:
                // Adding the negative is the same to the last bit.
                for (var t = 0; t < layout.TensorCount; t++) AddScaled(levels.AsSpan(layout[t]), -scales[t], destination[layout[t]]);
                break;
        }
    }

    /// <summary>destination += levels · scale.</summary>
    private static void AddScaled(ReadOnlySpan<short> levels, float scale, Span<float> destination)
    {
        var blocks = MemoryMarshal.Cast<short, Vector512<short>>(levels);
        var sums = MemoryMarshal.Cast<float, Vector512<float>>(destination);
        for (var i = 0; i < blocks.Length; i++)
        {
            var (lower, upper) = Vector512.Widen(blocks[i]);
            sums[2 * i] += Vector512.ConvertToSingle(lower) * scale;
            sums[(2 * i) + 1] += Vector512.ConvertToSingle(upper) * scale;
        }

        for (var i = blocks.Length * Vector512<short>.Count; i < levels.Length; i++) destination[i] += levels[i] * scale;
    }

    private void CheckLength(ReadOnlySpan<float> vector, string name)
    {
        if (vector.Length != Length) throw new ArgumentException($"The vector has {vector.Length} coordinates, this has {Length}.", name);
    }

    private static void EnsureCapacity<T>(ref T[] array, int count)
    {
        if (array.Length < count) Array.Resize(ref array, (int)Math.Min(Array.MaxLength, Math.Max(count, array.Length + (array.Length / 2L))));
    }
}
