using System.Numerics.Tensors;
using ContinuousDL.Randomness;
using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Compression;

/// <summary>
/// Sends the k coordinates of largest magnitude, with their values as they are (Aji and Heafield 2017; Stich et al. 2018,
/// "Sparsified SGD with Memory").
/// </summary>
/// <remarks>
/// <para>
/// The selection is exact: no coordinate left out is larger than one sent. Of equal magnitudes, the lower index goes first.
/// A value of exactly zero (of either sign) is never sent, so that fewer than k are sent where fewer are nonzero. NaN counts as
/// larger than infinity, infinity as larger than any number.
/// </para>
/// <para>
/// k = ⌊density · n⌋, where n is the number of coordinates of the model or of the tensor (see <see cref="CompressionScope"/>)
/// and the density is taken as the decimal number it was written as; where that is 0, see <see cref="SmallCountRounding"/>.
/// </para>
/// <para>Biased, and made for use with an error feedback memory.</para>
/// </remarks>
/// <example>
/// Of 61,706 parameters, the 61 that would change most:
/// <code>IGradientCompressor compressor = new TopKCompressor(density: 1e-3);</code>
/// </example>
public sealed class TopKCompressor : IBlockwiseCompressor
{
    private readonly SelectionCount selection;
    private readonly CompressionScope scope;
    private RandomSource random;
    private readonly MagnitudeSelector selector = new();
    private int wanted;

    /// <summary>Sends a share of the coordinates.</summary>
    /// <param name="density">The share, in (0, 1]. Lower: smaller updates, and more steps until a coordinate's turn comes.</param>
    /// <param name="scope">Whether the k largest of the whole model are sent (default) or those of each tensor.</param>
    /// <param name="rounding">What is sent where the density asks for less than one coordinate. Default: one.</param>
    /// <param name="seed">Of the generator that <see cref="SmallCountRounding.Probabilistic"/> draws from. Default 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public TopKCompressor(
        double density,
        CompressionScope scope = CompressionScope.WholeModel,
        SmallCountRounding rounding = SmallCountRounding.AtLeastOne,
        ulong seed = 0)
        : this(new SelectionCount(density, rounding), scope, seed)
    {
    }

    private TopKCompressor(SelectionCount selection, CompressionScope scope, ulong seed)
    {
        CompressorArguments.CheckDefined(scope, nameof(scope));
        this.selection = selection;
        this.scope = scope;
        random = new RandomSource(seed);
    }

    /// <summary>Whether the k largest of the whole model are sent, or those of each tensor.</summary>
    public CompressionScope Scope => scope;

    /// <summary>Sends a fixed number of coordinates.</summary>
    /// <param name="count">The number, k, at least 1: of the model, or of each tensor; all where there are fewer.</param>
    /// <param name="scope">Whether the k largest of the whole model are sent (default) or those of each tensor.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public static TopKCompressor OfCount(int count, CompressionScope scope = CompressionScope.WholeModel) =>
        new(new SelectionCount(count), scope, 0);

    /// <inheritdoc/>
    public void Compress(ReadOnlySpan<float> vector, VectorLayout layout, CompressedGradient result)
    {
        CompressorArguments.CheckVector(vector, layout, result);
        result.SetSparse(vector.Length, 0);
        if (scope == CompressionScope.WholeModel)
        {
            Append(vector, 0, 0, result);
            return;
        }

        for (var t = 0; t < layout.TensorCount; t++) Append(vector[layout[t]], layout.Offsets[t], t, result);
    }

    string IStateful.StateKind => selection.IsRandom ? $"{nameof(TopKCompressor)} with counts drawn at random" : nameof(TopKCompressor);

    void IStateful.WriteState(BinaryWriter writer)
    {
        if (selection.IsRandom) random.Save(writer);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        if (!selection.IsRandom) return static () => { };
        var read = RandomSource.Read(reader);
        return () => random = read;
    }

    /// <summary>How many coordinates are sent next at most, for a selection that is made elsewhere, such as on a device.</summary>
    /// <param name="length">The number of the coordinates to select from, 0 or more.</param>
    /// <returns>k. To be asked once for each selection: it may be a matter of chance, and moves the random state then.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="length"/> is negative.</exception>
    public int NextCount(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        return selection.For(length, random).Count;
    }

    /// <inheritdoc/>
    bool IBlockwiseCompressor.TryBegin(VectorLayout layout)
    {
        if (scope != CompressionScope.WholeModel) return false;
        wanted = NextCount(layout.Length);
        selector.Begin(layout.Length, wanted, 0);
        return true;
    }

    /// <inheritdoc/>
    bool IBlockwiseCompressor.TakesNonFinite => wanted > 0;

    /// <inheritdoc/>
    void IBlockwiseCompressor.Scan(ReadOnlySpan<float> block, int offset) => selector.Scan(block, offset);

    /// <inheritdoc/>
    void IBlockwiseCompressor.Finish(ReadOnlySpan<float> vector, CompressedGradient result)
    {
        result.SetSparse(vector.Length, 0);
        Take(vector, 0, result);
    }

    private void Append(ReadOnlySpan<float> part, int offset, int slot, CompressedGradient result)
    {
        selector.Begin(part.Length, NextCount(part.Length), slot);
        selector.Scan(part, 0);
        Take(part, offset, result);
    }

    private void Take(ReadOnlySpan<float> part, int offset, CompressedGradient result)
    {
        selector.Finish(part);
        var before = result.Count;
        result.SetSparse(result.Length, before + selector.Indices.Length);
        TensorPrimitives.Add(selector.Indices, offset, result.Indices[before..]);
        selector.Values.CopyTo(result.Values[before..]);
    }
}
