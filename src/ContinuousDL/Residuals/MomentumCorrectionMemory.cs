using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using ContinuousDL.Compression;
using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Residuals;

/// <summary>
/// Accumulates the gradient's momentum instead of the gradient itself, so that a coordinate that is sent late has gained what
/// momentum SGD would have given it by then (Lin et al. 2018, "Deep Gradient Compression", sections 3.1 and 3.2). The optimizer
/// behind it is to have no momentum of its own.
/// </summary>
/// <remarks>
/// <para>
/// With velocity u, gradient g and what is owed v, a step is u ← m·u + g; v ← v + u, and with Nesterov momentum
/// u ← m·(u + g); v ← v + u + g. A coordinate that is not accumulated in a step keeps both.
/// </para>
/// <para>
/// Momentum factor masking sets the velocity of the coordinates that are sent to zero, so that a stale one doesn't push on.
/// It concerns sparse results only: in a dense or quantized one every coordinate is sent in every step, none is stale, and
/// masking would be the end of all momentum. What is owed is v minus what was sent, in any case; for <see cref="NoCompressor"/>
/// that makes it plain momentum SGD.
/// </para>
/// <para>Takes 8 bytes of native memory for each coordinate, which <see cref="Dispose"/> frees. Arithmetic is in float32.</para>
/// </remarks>
public sealed class MomentumCorrectionMemory : IResidualMemory
{
    private readonly float momentum;
    private readonly bool nesterov;
    private readonly bool momentumMasking;
    private readonly double? clipNorm;
    private readonly ResidualVector velocity = new(typeof(MomentumCorrectionMemory));
    private readonly ResidualVector owed = new(typeof(MomentumCorrectionMemory));

    /// <summary>What clipping scales this step's gradient by; none before <see cref="BeginStep"/>.</summary>
    private float? clipping;

    /// <summary>Creates a memory with nothing owed and velocity zero.</summary>
    /// <param name="momentum">m, in [0, 1). Default 0.9.</param>
    /// <param name="nesterov">Whether the momentum is Nesterov's. Default: no.</param>
    /// <param name="momentumMasking">Whether a coordinate that is sent loses its velocity. Default: yes.</param>
    /// <param name="clipNorm">
    /// The L2 norm that a step's gradient is scaled down to where it is larger, above 0 and finite. Default: none, no clipping.
    /// With it, the memory needs <see cref="BeginStep"/>.
    /// </param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public MomentumCorrectionMemory(double momentum = 0.9, bool nesterov = false, bool momentumMasking = true, double? clipNorm = null)
    {
        if (!((float)momentum is >= 0 and < 1))
        {
            throw new ArgumentOutOfRangeException(nameof(momentum), momentum, "The momentum must be at least 0 and below 1.");
        }

        if (clipNorm is not (null or (> 0 and <= double.MaxValue)))
        {
            throw new ArgumentOutOfRangeException(nameof(clipNorm), clipNorm, "The norm to clip to must be above 0 and finite, or none.");
        }

        this.momentum = (float)momentum;
        this.nesterov = nesterov;
        this.momentumMasking = momentumMasking;
        this.clipNorm = clipNorm;
    }

    /// <inheritdoc/>
    public ReadOnlySpan<float> Accumulated => owed.Span;

    /// <summary>Whether <see cref="BeginStep"/> has to be called in every step: if gradients are clipped.</summary>
    public bool NeedsGradientNorm => clipNorm is not null;

    string IStateful.StateKind => string.Create(
        CultureInfo.InvariantCulture,
        $"momentum correction, momentum {momentum}, nesterov {nesterov}, masking {momentumMasking}, clip norm {clipNorm}, "
        + $"{owed.Length} coordinates");

    /// <inheritdoc/>
    public void Attach(VectorLayout layout)
    {
        owed.Attach(layout);
        velocity.Attach(layout);
    }

    /// <inheritdoc/>
    public void BeginStep(double gradientNorm)
    {
        if (clipNorm is not { } limit) return;
        if (!(gradientNorm is >= 0 and <= double.MaxValue))
        {
            throw new ArgumentOutOfRangeException(nameof(gradientNorm), gradientNorm, "The norm must be finite and not negative.");
        }

        clipping = gradientNorm > limit ? (float)(limit / gradientNorm) : 1;
    }

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">
    /// There is no layout yet; or gradients are clipped, and <see cref="BeginStep"/> was not called in this step.
    /// </exception>
    public ReadOnlySpan<float> Accumulate(ReadOnlySpan<float> gradient, int offset)
    {
        if (NeedsGradientNorm && clipping is null)
        {
            throw new InvalidOperationException("Clipping needs the norm of the whole gradient: in every step, BeginStep comes first.");
        }

        var part = owed.Part(offset, gradient.Length);
        Accumulate(velocity.Part(offset, gradient.Length), part, gradient, clipping ?? 1);
        GC.KeepAlive(this);
        return part;
    }

    /// <inheritdoc/>
    public void Release(CompressedGradient sent)
    {
        owed.CheckSent(sent);
        sent.SubtractFrom(owed.Span);
        if (momentumMasking && sent.Form == CompressedForm.Sparse)
        {
            var all = velocity.Span;
            foreach (var i in sent.Indices) all[i] = 0;
        }

        clipping = null;
        GC.KeepAlive(this);
    }

    /// <inheritdoc/>
    public void Reset()
    {
        velocity.Clear();
        owed.Clear();
        clipping = null;
    }

    void IStateful.WriteState(BinaryWriter writer)
    {
        ResidualState.Write(writer, velocity, owed);
        GC.KeepAlive(this);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var take = ResidualState.Read(reader, velocity, owed);
        return () =>
        {
            take();
            clipping = null;
            GC.KeepAlive(this);
        };
    }

    /// <summary>Frees the native memory. Doing so twice is harmless; anything else afterwards throws.</summary>
    public void Dispose()
    {
        velocity.Dispose();
        owed.Dispose();
    }

    private void Accumulate(Span<float> u, Span<float> v, ReadOnlySpan<float> gradient, float scale)
    {
        var us = MemoryMarshal.Cast<float, Vector512<float>>(u);
        var vs = MemoryMarshal.Cast<float, Vector512<float>>(v);
        var gs = MemoryMarshal.Cast<float, Vector512<float>>(gradient);
        for (var i = 0; i < us.Length; i++)
        {
            var g = gs[i] * scale;
            us[i] = nesterov ? (us[i] + g) * momentum : (us[i] * momentum) + g;
            vs[i] += nesterov ? us[i] + g : us[i];
        }

        for (var i = us.Length * Vector512<float>.Count; i < u.Length; i++)
        {
            var g = gradient[i] * scale;
            u[i] = nesterov ? (u[i] + g) * momentum : (u[i] * momentum) + g;
            v[i] += nesterov ? u[i] + g : u[i];
        }
    }
}
