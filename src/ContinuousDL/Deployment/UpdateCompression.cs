using System.Buffers;
using System.Numerics;
using System.Numerics.Tensors;
using ContinuousDL.Compression;
using ContinuousDL.Memory;
using ContinuousDL.Optimization;
using ContinuousDL.Residuals;
using ContinuousDL.State;
using ContinuousDL.Vectors;
using TorchSharp;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace ContinuousDL.Deployment;

/// <summary>
/// Compresses the optimizer's update: what the optimizer wants to add is added to what is still owed, the compressor picks
/// what is applied now, the rest stays owed. The gradient is taken at the deployed weights, or part of the way ahead, where
/// they will be when what is owed has been applied.
/// </summary>
/// <remarks>
/// <para>
/// With deployed weights w, owed updates e and look-ahead α: the model trains at y = w + α·e; e += u(∇f(y)); S = select(e);
/// w[S] += e[S]; e[S] = 0. With α = 0 this is EF-SGD (Karimireddy, Rebjock, Stich and Jaggi 2019, Algorithm 2) for any
/// optimizer, and the trained model is the deployed one. With α = 1 the model trains for itself and the deployed one follows,
/// as in <see cref="ReplicaDifference"/>. In between it is better than either: what is owed is soon applied at a high density
/// and should be counted on; most of it never is at a low one.
/// </para>
/// <para>
/// What something else than the optimizer does to y, such as a forward pass that clips weights, is owed like an update; without
/// a look-ahead it is deployed as it is.
/// </para>
/// <para>
/// In all of them the moments see the full gradient, the learning rate is inside the residual, and momentum moves no
/// coordinate that was not selected. Memory: 4 bytes for each trainable parameter, and with α above 0 a second copy of the
/// parameters.
/// </para>
/// </remarks>
public sealed class UpdateCompression : IDeploymentStrategy
{
    private readonly IGradientCompressor compressor;
    private readonly IResidualMemory memory;
    private readonly float lookahead;
    private readonly CompressedGradient sent = new();
    private TrainableVector? vector;
    private IUpdateRule? optimizer;
    private DeployedModel? model;
    private StillTensors? still;

    /// <summary>Makes the strategy.</summary>
    /// <param name="compressor">Picks what is applied.</param>
    /// <param name="memory">Keeps the rest. Default: error feedback. Disposed with the strategy.</param>
    /// <param name="lookahead">α: how far towards what is owed the gradient is taken, in [0, 1]. Default: 0, at the deployed weights. <see cref="LookaheadFor"/> gives a good one for a density.</param>
    /// <exception cref="ArgumentException">The memory clips gradients, which are not what is accumulated here; or it keeps nothing and there is a look-ahead.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="lookahead"/> is not in [0, 1].</exception>
    public UpdateCompression(IGradientCompressor compressor, IResidualMemory? memory = null, double lookahead = 0)
    {
        if (!(lookahead is >= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(lookahead), lookahead, "lookahead must be from 0 to 1.");
        ArgumentNullException.ThrowIfNull(compressor);
        if (memory is { NeedsGradientNorm: true })
        {
            throw new ArgumentException("A memory that clips by the gradient's norm goes with gradient compression: here the optimizer's update is accumulated.", nameof(memory));
        }

        if (lookahead > 0 && memory is { KeepsResidual: false }) throw new ArgumentException("Without a residual memory nothing is owed, so there is nothing to look ahead to.", nameof(lookahead));
        this.compressor = compressor;
        this.memory = memory ?? new ErrorFeedbackMemory();
        this.lookahead = (float)lookahead;
    }

    /// <summary>
    /// A look-ahead that suits a density d: min(1, ½·(d / 0.001)^0.7), which is 1 from 0.3 % on, 0.5 at 1e-3, 0.1 at 1e-4. Found
    /// on LeNet-5 with Adam; docs/choosing.md has the measurements.
    /// </summary>
    /// <param name="density">The share of the trainable coordinates that a step applies, in (0, 1].</param>
    public static double LookaheadFor(double density) => Math.Min(1, 0.5 * Math.Pow(density / 1e-3, 0.7));

    /// <inheritdoc />
    public void Attach(TrainableVector trainable, IUpdateRule rule, DeployedModel deployed)
    {
        AttachOnce.ThrowIfAttached(vector, this);
        memory.Attach(trainable.Layout);
        if (lookahead > 0) deployed.SeparateParameters();
        (vector, optimizer, model, still) = (trainable, rule, deployed, new StillTensors(trainable));
    }

    /// <inheritdoc />
    public void Step()
    {
        still!.Begin();
        DropWhatIsFrozen();
        optimizer!.BeginStep(vector!.ForRule(vector.HasGradient));

        // Looking at the blocks while they are in the cache needs them all, in order; without a memory, parts without a gradient are no vector yet.
        var blockwise = !memory.KeepsResidual && vector.HasGradient.Contains(false) ? null : compressor.Blockwise;
        if (blockwise?.TryBegin(vector.Layout) == false) blockwise = null;
        var block = ArrayPool<float>.Shared.Rent(FusedOptimizer.BlockSize);
        for (var t = 0; t < vector.Layout.TensorCount; t++)
        {
            if (vector.HasGradient[t] || (lookahead > 0 && vector.HasMoved[t])) Accumulate(t, block.AsSpan(0, FusedOptimizer.BlockSize), blockwise);
            else blockwise?.Scan(Visible[vector.Layout[t]], vector.Layout.Offsets[t]);
        }

        ArrayPool<float>.Shared.Return(block);
        if (blockwise is null) compressor.Compress(Visible, vector.Layout, sent);
        else blockwise.Finish(Visible, sent);
        still.Exclude(sent);
        model!.Add(sent);
        memory.Release(sent);
        if (lookahead > 0) LookAheadAtSent();
    }

    /// <inheritdoc />
    public void Reset()
    {
        memory.Reset();
        still!.Reset();
    }

    string IStateful.StateKind => FormattableString.Invariant($"{nameof(UpdateCompression)} with look-ahead {lookahead}");

    void IStateful.WriteState(BinaryWriter writer)
    {
        memory.SaveState(writer);
        compressor.SaveState(writer);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var takeResiduals = memory.ReadState(reader);
        var takeRandomState = compressor.ReadState(reader);
        return () =>
        {
            takeResiduals();
            takeRandomState();
            still!.Load(memory.Accumulated);
            for (var t = 0; lookahead > 0 && t < vector!.Layout.TensorCount; t++) LookAhead(t);
        };
    }

    /// <inheritdoc />
    public void Dispose()
    {
        memory.Dispose();
        still?.Dispose();
    }

    /// <summary>What the compressor is to see once all is accumulated.</summary>
    private ReadOnlySpan<float> Visible => still!.IsMasking ? still.Visible : memory.Accumulated;

    /// <summary>
    /// Adds one tensor's update to what is owed, looks at it, and moves the trained weights ahead by it, block by block, each
    /// while it is in the cache.
    /// </summary>
    private void Accumulate(int tensor, Span<float> block, IBlockwiseCompressor? blockwise)
    {
        var gradient = vector!.HasGradient[tensor] ? vector.Gradient(tensor) : [];
        var weights = vector.Weights(tensor);
        using var move = lookahead > 0 && vector.HasMoved[tensor] ? Move(tensor) : null;
        using var moved = move is null ? default : FloatView.Of(move);
        using var trained = lookahead > 0 ? FloatView.Of(vector.Parameters[tensor]) : default;
        using var deployed = lookahead > 0 ? FloatView.Of(model!.Parameter(tensor)) : default;
        var direct = lookahead > 0 && trained.IsDirect && deployed.IsDirect;
        for (var start = 0; start < weights.Length; start += block.Length)
        {
            var update = block[..Math.Min(block.Length, weights.Length - start)];
            if (gradient.IsEmpty) update.Clear();
            else optimizer!.ComputeUpdate(vector.RuleIndex(tensor), start, gradient.Slice(start, update.Length), weights.Slice(start, update.Length), update);
            if (!moved.Span.IsEmpty) TensorPrimitives.Add(update, moved.Span.Slice(start, update.Length), update);
            var offset = vector.Layout.Offsets[tensor] + start;
            var owed = still!.Show(memory.Accumulate(update, offset), offset);

            // Selecting the largest brings it to light by itself.
            if (blockwise is not { TakesNonFinite: true } && !Finiteness.AllFinite(owed)) throw model!.NotFinite(tensor);
            blockwise?.Scan(owed, offset);
            if (direct) LookAhead(deployed.Span.Slice(start, update.Length), owed, trained.Span.Slice(start, update.Length));
        }

        if (lookahead > 0 && !direct) LookAhead(tensor);
    }

    /// <summary>Forgets what is owed to parameters that are frozen, where the options say so: it counts as sent.</summary>
    private void DropWhatIsFrozen()
    {
        for (var t = 0; t < vector!.Layout.TensorCount; t++)
        {
            if (!still!.Drops(t)) continue;
            ResidualDrop.Drop(memory, vector.Layout, t, sent);
            if (lookahead > 0) LookAhead(t);
        }
    }

    /// <summary>What was sent has changed w and e: puts the trained weights right there.</summary>
    private void LookAheadAtSent()
    {
        for (var t = 0; t < vector!.Layout.TensorCount; t++)
        {
            if (!vector.HasGradient[t]) continue;
            if (sent.Form != CompressedForm.Sparse)
            {
                LookAhead(t);
                continue;
            }

            var part = vector.SparseRange(sent, t);
            if (part.Start.Value == part.End.Value) continue;
            using var trained = FloatView.Of(vector.Parameters[t]);
            using var deployed = FloatView.Of(model!.Parameter(t));
            if (!trained.IsDirect || !deployed.IsDirect)
            {
                LookAhead(t);
                continue;
            }

            var to = trained.Span;
            var from = deployed.Span;
            var owed = memory.Accumulated[vector.Layout[t]];
            foreach (var index in sent.Indices[part])
            {
                var i = index - vector.Layout.Offsets[t];
                to[i] = from[i] + (lookahead * owed[i]);
            }
        }
    }

    /// <summary>How far something else than the optimizer has moved a tensor's trained weights from where they were put: y' − (w + α·e), float32, on the CPU, owned by the caller.</summary>
    private Tensor Move(int tensor)
    {
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var (trained, deployed) = (vector!.Parameters[tensor].detach(), model!.Parameter(tensor));
        var put = deployed.Plus(Ahead(tensor).to(trained.device)).to(trained.dtype);
        return trained.sub(put).to(ScalarType.Float32).cpu().contiguous().DetachFromDisposeScope();
    }

    /// <summary>α·e of a tensor, of the caller's scope.</summary>
    private Tensor Ahead(int tensor)
    {
        using var factor = lookahead.ToScalar();
        return torch.tensor(memory.Accumulated[vector!.Layout[tensor]].ToArray(), vector.Parameters[tensor].shape, dtype: ScalarType.Float32).mul(factor);
    }

    /// <summary>Puts all trained weights of a tensor where the next gradient is to be taken: y = w + α·e.</summary>
    private void LookAhead(int tensor)
    {
        var owed = memory.Accumulated[vector!.Layout[tensor]];
        using var trained = FloatView.Of(vector.Parameters[tensor]);
        using var deployed = FloatView.Of(model!.Parameter(tensor));
        if (trained.IsDirect && deployed.IsDirect)
        {
            LookAhead(deployed.Span, owed, trained.Span);
            return;
        }

        // In the parameter's own dtype, as far as it is finer than float32.
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var current = vector.Parameters[tensor].detach();
        _ = current.copy_(model.Parameter(tensor).Plus(Ahead(tensor).to(current.device)));
    }

    private void LookAhead(ReadOnlySpan<float> deployed, ReadOnlySpan<float> owed, Span<float> trained)
    {
        var i = 0;
        for (; i <= trained.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            (new Vector<float>(deployed[i..]) + (lookahead * new Vector<float>(owed[i..]))).CopyTo(trained[i..]);
        }

        for (; i < trained.Length; i++) trained[i] = deployed[i] + (lookahead * owed[i]);
    }
}
