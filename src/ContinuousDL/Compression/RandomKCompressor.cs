using System.Numerics.Tensors;
using ContinuousDL.Randomness;
using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>
/// Sends k coordinates drawn at random without replacement, every set of k equally likely (Stich et al. 2018, "Sparsified SGD
/// with Memory"; unbiased: Wangni et al. 2018). Costs what k coordinates cost, whatever n.
/// </summary>
/// <remarks>
/// <para>
/// k as in <see cref="TopKCompressor"/>. What is drawn is sent even if it is zero.
/// </para>
/// <para>
/// Biased (default): values as they are; made for use with an error feedback memory. Unbiased: values times n/k, so that what
/// is sent is right on average; made for use without a memory, since with one the scaled values make what is owed grow.
/// </para>
/// </remarks>
public sealed class RandomKCompressor : IGradientCompressor
{
    private readonly SelectionCount selection;
    private readonly bool unbiased;
    private readonly CompressionScope scope;
    private RandomSource random;
    private readonly RandomSubset subset = new();

    /// <summary>Sends a share of the coordinates.</summary>
    /// <param name="density">The share, in (0, 1].</param>
    /// <param name="unbiased">Whether the values are scaled by n/k. Default: no.</param>
    /// <param name="scope">Whether k coordinates of the whole model are sent (default) or k of each tensor.</param>
    /// <param name="rounding">What is sent where the density asks for less than one coordinate. Default: one.</param>
    /// <param name="seed">Of the generator. Default 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public RandomKCompressor(
        double density,
        bool unbiased = false,
        CompressionScope scope = CompressionScope.WholeModel,
        SmallCountRounding rounding = SmallCountRounding.AtLeastOne,
        ulong seed = 0)
        : this(new SelectionCount(density, rounding), unbiased, scope, seed)
    {
    }

    private RandomKCompressor(SelectionCount selection, bool unbiased, CompressionScope scope, ulong seed)
    {
        CompressorArguments.CheckDefined(scope, nameof(scope));
        this.selection = selection;
        this.unbiased = unbiased;
        this.scope = scope;
        random = new RandomSource(seed);
    }

    /// <summary>Sends a fixed number of coordinates.</summary>
    /// <param name="count">The number, k, at least 1: of the model, or of each tensor; all where there are fewer.</param>
    /// <param name="unbiased">Whether the values are scaled by n/k. Default: no.</param>
    /// <param name="scope">Whether k coordinates of the whole model are sent (default) or k of each tensor.</param>
    /// <param name="seed">Of the generator. Default 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public static RandomKCompressor OfCount(
        int count, bool unbiased = false, CompressionScope scope = CompressionScope.WholeModel, ulong seed = 0) =>
        new(new SelectionCount(count), unbiased, scope, seed);

    /// <inheritdoc/>
    public void Compress(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result)
    {
        CompressorArguments.CheckVector(vector, layout, result);
        Draw(layout, result);
        var indices = result.Indices;
        var values = result.Values;
        for (var j = 0; j < values.Length; j++) values[j] *= vector[indices[j]];
    }

    string IStateful.StateKind => nameof(RandomKCompressor);

    void IStateful.WriteState(BinaryWriter writer) => random.Save(writer);

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var read = RandomSource.Read(reader);
        return () => random = read;
    }

    /// <summary>Draws the coordinates of a step, for a vector that is not at hand.</summary>
    /// <param name="layout">The tensors of the vector.</param>
    /// <param name="result">Receives the coordinates and, in the place of their values, what each value is to be multiplied by.</param>
    /// <exception cref="ArgumentNullException">An argument is null.</exception>
    public void Draw(VectorLayout layout, CompressedGradient result)
    {
        ArgumentNullException.ThrowIfNull(layout);
        ArgumentNullException.ThrowIfNull(result);
        result.SetSparse(layout.Length, 0);
        if (scope == CompressionScope.WholeModel)
        {
            Draw(layout.Length, 0, result);
            return;
        }

        for (var t = 0; t < layout.TensorCount; t++) Draw(layout.Offsets[t + 1] - layout.Offsets[t], layout.Offsets[t], result);
    }

    private void Draw(int length, int offset, CompressedGradient result)
    {
        var (k, average) = selection.For(length, random);
        if (k == 0) return;

        var before = result.Count;
        result.SetSparse(result.Length, before + k);
        var indices = result.Indices[before..];
        subset.Draw(length, indices, random);
        TensorPrimitives.Add(indices, offset, indices);

        // The average and not k: a tensor whose turn comes seldom has to make up for the times when it doesn't.
        result.Values[before..].Fill(unbiased ? (float)(length / average) : 1);
    }
}
