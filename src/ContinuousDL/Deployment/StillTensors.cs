using ContinuousDL.Memory;
using ContinuousDL.Vectors;

namespace ContinuousDL.Deployment;

/// <summary>
/// Keeps parameters without a gradient in a step (frozen ones, and those of a branch that the forward pass did not use) out of what is
/// deployed by it: a compressor sees zeros in the place of what they are owed, and nothing of them is sent.
/// </summary>
/// <remarks>
/// Costs nothing as long as no such parameter is owed anything. Otherwise it takes 4 bytes for each trainable coordinate, and one more
/// write of them in each such step. A step: <see cref="Begin"/>; <see cref="Show"/> for what is accumulated; <see cref="Exclude"/>.
/// </remarks>
/// <param name="vector">The trainable parameters.</param>
internal sealed class StillTensors(TrainableVector vector) : IDisposable
{
    private readonly bool[] owed = new bool[vector.Layout.TensorCount];
    private readonly bool[] isZero = new bool[vector.Layout.TensorCount];
    private NativeBuffer<float>? visible;
    private bool hasStill;

    /// <summary>Whether a parameter without a gradient may be owed something, so that a compressor is to be given <see cref="Visible"/>.</summary>
    public bool IsMasking { get; private set; }

    /// <summary>What a compressor may see, where <see cref="IsMasking"/> and once all that has a gradient was shown.</summary>
    public ReadOnlySpan<float> Visible => visible!.Span;

    /// <summary>Looks at which parameters have a gradient in this step.</summary>
    public void Begin()
    {
        (hasStill, IsMasking) = (false, false);
        for (var t = 0; t < owed.Length; t++)
        {
            hasStill |= !vector.HasGradient[t];
            IsMasking |= !vector.HasGradient[t] && owed[t];
            owed[t] |= vector.HasGradient[t];
        }

        if (!IsMasking) return;
        visible ??= new NativeBuffer<float>(vector.Layout.Length);
        for (var t = 0; t < owed.Length; t++)
        {
            if (!vector.HasGradient[t] && !isZero[t]) visible.Span[vector.Layout[t]].Clear();
            isZero[t] = !vector.HasGradient[t];
        }
    }

    /// <summary>Takes note of what has been accumulated for consecutive coordinates with a gradient.</summary>
    /// <param name="accumulated">The values.</param>
    /// <param name="offset">The first coordinate.</param>
    /// <returns>The same values.</returns>
    public ReadOnlySpan<float> Show(ReadOnlySpan<float> accumulated, int offset)
    {
        if (IsMasking) accumulated.CopyTo(visible!.Span[offset..]);
        return accumulated;
    }

    /// <summary>Takes what belongs to parameters without a gradient off what is to be sent: a sign has no place for zero, and a random choice may fall on it.</summary>
    public void Exclude(CompressedGradient sent)
    {
        if (!hasStill) return;
        if (sent.Form == CompressedForm.Sparse)
        {
            vector.ExcludeWithoutGradient(sent);
            return;
        }

        sent.Dequantize();
        for (var t = 0; t < owed.Length; t++)
        {
            if (!vector.HasGradient[t]) sent.Values[vector.Layout[t]].Clear();
        }
    }

    /// <summary>Whether what a parameter is owed is to be forgotten, as it is frozen and the options say so. Says so once.</summary>
    /// <param name="tensor">Its index in the vector.</param>
    public bool Drops(int tensor)
    {
        if (vector.OwedWhenFrozen != OwedWhenFrozen.Drop || !owed[tensor] || vector.HasGradient[tensor] || !vector.IsFrozen(tensor)) return false;
        owed[tensor] = false;
        return true;
    }

    /// <summary>Says that nothing is owed to any parameter.</summary>
    public void Reset() => Array.Clear(owed);

    /// <summary>Looks at what is owed after it was loaded.</summary>
    /// <param name="accumulated">What is owed to each coordinate.</param>
    public void Load(ReadOnlySpan<float> accumulated)
    {
        for (var t = 0; t < owed.Length; t++) owed[t] = accumulated[vector.Layout[t]].ContainsAnyExcept(0f);
    }

    /// <summary>Says that any parameter may be owed something.</summary>
    public void AssumeOwed() => Array.Fill(owed, true);

    /// <summary>Frees the memory.</summary>
    public void Dispose() => visible?.Dispose();
}
