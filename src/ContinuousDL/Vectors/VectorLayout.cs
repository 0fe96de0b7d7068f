namespace ContinuousDL.Vectors;

/// <summary>
/// How a flat vector of n coordinates is made up of tensors laid end to end: tensor t has the coordinates
/// [<c>Offsets[t]</c>, <c>Offsets[t + 1]</c>).
/// </summary>
/// <remarks>Immutable. A compressor that works per tensor takes the borders from here; one that works on the whole model ignores them.</remarks>
public sealed class VectorLayout
{
    private readonly int[] offsets;

    /// <summary>Lays tensors end to end.</summary>
    /// <param name="lengths">The number of elements of each tensor; 0 is allowed.</param>
    /// <exception cref="ArgumentOutOfRangeException">A length is negative, or they add up to more than <see cref="int.MaxValue"/>: the limit on n.</exception>
    public VectorLayout(params ReadOnlySpan<int> lengths)
    {
        offsets = new int[lengths.Length + 1];
        var total = 0L;
        for (var t = 0; t < lengths.Length; t++)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(lengths[t], nameof(lengths));
            total += lengths[t];
            ArgumentOutOfRangeException.ThrowIfGreaterThan(total, int.MaxValue, nameof(lengths));
            offsets[t + 1] = (int)total;
        }
    }

    /// <summary>The number of coordinates, n.</summary>
    public int Length => offsets[^1];

    /// <summary>The number of tensors.</summary>
    public int TensorCount => offsets.Length - 1;

    /// <summary>Where each tensor starts, and n at the end: <see cref="TensorCount"/> + 1 values.</summary>
    public ReadOnlySpan<int> Offsets => offsets;

    /// <summary>The coordinates of tensor <paramref name="tensor"/>.</summary>
    public Range this[int tensor] => offsets[tensor]..offsets[tensor + 1];
}
