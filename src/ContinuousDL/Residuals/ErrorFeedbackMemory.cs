using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Residuals;

/// <summary>
/// Keeps everything that was not sent and adds it to the next gradient: accumulated = β · residual + γ · gradient (Seide et al.
/// 2014, Karimireddy et al. 2019; decay β and gain γ as in GRACE, Xu et al. 2021).
/// </summary>
/// <remarks>
/// Takes 4 bytes of native memory for each coordinate, which <see cref="Dispose"/> frees. Arithmetic is in float32.
/// </remarks>
public sealed class ErrorFeedbackMemory : IResidualMemory
{
    private readonly float decay;
    private readonly float gain;
    private readonly ResidualVector residual = new(typeof(ErrorFeedbackMemory));

    /// <summary>Creates a memory with nothing owed.</summary>
    /// <param name="decay">β, in [0, 1]: what is owed is multiplied by it in each step. Lower: old gradients fade. Default 1.</param>
    /// <param name="gain">γ, above 0 and finite: what each gradient is multiplied by. Default 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public ErrorFeedbackMemory(double decay = 1, double gain = 1)
    {
        if (!(decay is >= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(decay), decay, "The decay must be from 0 to 1.");
        if (!((float)gain is > 0 and <= float.MaxValue))
        {
            throw new ArgumentOutOfRangeException(nameof(gain), gain, "The gain must be above 0 and finite, in float32.");
        }

        (this.decay, this.gain) = ((float)decay, (float)gain);
    }

    /// <inheritdoc/>
    public ReadOnlySpan<float> Accumulated => residual.Span;

    string IStateful.StateKind => FormattableString.Invariant($"error feedback, decay {decay}, gain {gain}, {residual.Length} coordinates");

    /// <inheritdoc/>
    public void Attach(VectorLayout layout) => residual.Attach(layout);

    /// <inheritdoc/>
    public ReadOnlySpan<float> Accumulate(ReadOnlySpan<float> gradient, int offset)
    {
        var part = residual.Part(offset, gradient.Length);
        if ((decay, gain) == (1, 1)) TensorPrimitives.Add(part, gradient, part);
        else AddScaled(part, gradient);
        GC.KeepAlive(this);
        return part;
    }

    /// <inheritdoc/>
    public void Release(CompressedGradient sent)
    {
        residual.CheckSent(sent);
        sent.SubtractFrom(residual.Span);
        GC.KeepAlive(this);
    }

    /// <inheritdoc/>
    public void Reset() => residual.Clear();

    void IStateful.WriteState(BinaryWriter writer)
    {
        ResidualState.Write(writer, residual);
        GC.KeepAlive(this);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var take = ResidualState.Read(reader, residual);
        return () =>
        {
            take();
            GC.KeepAlive(this);
        };
    }

    /// <summary>Frees the native memory. Doing so twice is harmless; anything else afterwards throws.</summary>
    public void Dispose() => residual.Dispose();

    private void AddScaled(Span<float> part, ReadOnlySpan<float> gradient)
    {
        var owed = MemoryMarshal.Cast<float, Vector512<float>>(part);
        var added = MemoryMarshal.Cast<float, Vector512<float>>(gradient);
        for (var i = 0; i < owed.Length; i++) owed[i] = (owed[i] * decay) + (added[i] * gain);
        for (var i = owed.Length * Vector512<float>.Count; i < part.Length; i++) part[i] = (part[i] * decay) + (gradient[i] * gain);
    }
}
