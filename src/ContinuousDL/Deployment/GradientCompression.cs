using System.Buffers;
using ContinuousDL.Compression;
using ContinuousDL.Memory;
using ContinuousDL.Optimization;
using ContinuousDL.Residuals;
using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Deployment;

/// <summary>
/// Compresses the gradient, as published (Prapas et al. 2021), and gives the optimizer only the selected coordinates, which
/// are the only ones that it moves. The trained model is the deployed model.
/// </summary>
/// <remarks>
/// The published code lets the optimizer step on all coordinates with the compressed gradient; its momentum then moves every
/// coordinate that was ever selected, many more than are sent. Here momentum stands still where nothing was selected.
/// </remarks>
public sealed class GradientCompression : IDeploymentStrategy
{
    private readonly IGradientCompressor compressor;
    private readonly IResidualMemory memory;
    private readonly CompressedGradient sent = new();
    private readonly CompressedGradient delta = new();
    private bool[] flags = [];
    private TrainableVector? vector;
    private IUpdateRule? optimizer;
    private DeployedModel? model;
    private StillTensors? still;

    /// <summary>Makes the strategy.</summary>
    /// <param name="compressor">Picks the coordinates of the gradient that the optimizer sees.</param>
    /// <param name="memory">Keeps the rest of the gradient. Default: error feedback. Disposed with the strategy.</param>
    public GradientCompression(IGradientCompressor compressor, IResidualMemory? memory = null)
    {
        ArgumentNullException.ThrowIfNull(compressor);
        this.compressor = compressor;
        this.memory = memory ?? new ErrorFeedbackMemory();
    }

    /// <inheritdoc />
    public void Attach(TrainableVector trainable, IUpdateRule rule, DeployedModel deployed)
    {
        AttachOnce.ThrowIfAttached(vector, this);
        memory.Attach(trainable.Layout);
        flags = new bool[trainable.Layout.TensorCount];
        (vector, optimizer, model, still) = (trainable, rule, deployed, new StillTensors(trainable));
    }

    /// <inheritdoc />
    public void Step()
    {
        still!.Begin();
        for (var t = 0; t < flags.Length; t++)
        {
            if (still.Drops(t)) ResidualDrop.Drop(memory, vector!.Layout, t, sent);
        }

        memory.BeginStep(memory.NeedsGradientNorm ? vector!.GradientNorm : 0);
        for (var t = 0; t < flags.Length; t++)
        {
            flags[t] = vector!.HasGradient[t];
            if (flags[t]) Accumulate(t);
        }

        compressor.Compress(still.IsMasking ? still.Visible : memory.Accumulated, vector!.Layout, sent);
        sent.Dequantize();
        still.Exclude(sent);
        if (optimizer!.ReadsParameterGradients) vector.ReplaceGradients(sent, flags);
        optimizer.BeginStep(vector.ForRule(flags));
        if (sent.Form == CompressedForm.Sparse) UpdateSelected();
        else UpdateAll();

        model!.Add(delta);
        memory.Release(sent);
    }

    /// <inheritdoc />
    public void Reset()
    {
        memory.Reset();
        still!.Reset();
    }

    string IStateful.StateKind => nameof(GradientCompression);

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
        };
    }

    /// <inheritdoc />
    public void Dispose()
    {
        memory.Dispose();
        still?.Dispose();
    }

    /// <summary>Adds one tensor's gradient to what is owed, block by block, so that it can be checked while it is in the cache.</summary>
    private void Accumulate(int tensor)
    {
        var gradient = vector!.Gradient(tensor);
        for (var start = 0; start < gradient.Length; start += FusedOptimizer.BlockSize)
        {
            var offset = vector.Layout.Offsets[tensor] + start;
            var owed = still!.Show(memory.Accumulate(gradient.Slice(start, Math.Min(FusedOptimizer.BlockSize, gradient.Length - start)), offset), offset);
            if (!Finiteness.AllFinite(owed)) throw model!.NotFinite(tensor);
        }
    }

    /// <summary>The cost follows the number of selected coordinates.</summary>
    private void UpdateSelected()
    {
        delta.SetSparse(sent.Length, sent.Count);
        sent.Indices.CopyTo(delta.Indices);
        var elements = ArrayPool<int>.Shared.Rent(sent.Count);
        var values = ArrayPool<float>.Shared.Rent(sent.Count);
        for (var t = 0; t < flags.Length; t++)
        {
            var part = vector!.SparseRange(sent, t);
            var indices = sent.Indices[part];
            if (indices.IsEmpty) continue;
            var weights = vector.Weights(t);
            for (var j = 0; j < indices.Length; j++)
            {
                elements[j] = indices[j] - vector.Layout.Offsets[t];
                values[j] = weights[elements[j]];
            }

            optimizer!.ComputeUpdateAt(
                vector.RuleIndex(t), elements.AsSpan(0, indices.Length), sent.Values[part], values.AsSpan(0, indices.Length), delta.Values[part]);
        }

        ArrayPool<int>.Shared.Return(elements);
        ArrayPool<float>.Shared.Return(values);
    }

    private void UpdateAll()
    {
        delta.SetDense(sent.Length);
        for (var t = 0; t < flags.Length; t++)
        {
            var update = delta.Values[vector!.Layout[t]];
            if (flags[t]) optimizer!.ComputeUpdate(vector.RuleIndex(t), 0, sent.Values[vector.Layout[t]], vector.Weights(t), update);
            else update.Clear();
        }
    }
}
