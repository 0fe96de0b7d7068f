using System.Numerics.Tensors;
using ContinuousDL.Compression;
using ContinuousDL.Memory;
using ContinuousDL.Optimization;
using Tensor = TorchSharp.torch.Tensor;

namespace ContinuousDL.Deployment;

/// <summary>
/// Lets the model train for itself, as in an ordinary loop, and deploys the coordinates in which it differs most from the
/// replica. The difference is the residual: nothing else is kept.
/// </summary>
/// <remarks>
/// The deployed model averages out the noise of the last steps and is often better than the one it follows, as long as the
/// density keeps up. Memory: a second copy of the parameters, and 4 bytes for each trainable one.
/// </remarks>
public sealed class ReplicaDifference : IDeploymentStrategy
{
    private readonly IGradientCompressor compressor;
    private readonly CompressedGradient sent = new();
    private NativeBuffer<float>? difference;
    private TrainableVector? vector;
    private IUpdateRule? optimizer;
    private DeployedModel? model;

    /// <summary>Makes the strategy.</summary>
    /// <param name="compressor">Picks the part of the difference that is deployed.</param>
    public ReplicaDifference(IGradientCompressor compressor)
    {
        ArgumentNullException.ThrowIfNull(compressor);
        this.compressor = compressor;
    }

    /// <inheritdoc />
    public void Attach(TrainableVector trainable, IUpdateRule rule, DeployedModel deployed)
    {
        AttachCheck.ThrowIfAttached(vector, this);
        deployed.SeparateParameters();
        difference = new NativeBuffer<float>(trainable.Layout.Length);
        (vector, optimizer, model) = (trainable, rule, deployed);
    }

    /// <inheritdoc />
    public void Step()
    {
        optimizer!.BeginStep(vector!.ForRule(vector.HasGradient));
        optimizer.ApplyUpdate();
        for (var t = 0; t < vector.Layout.TensorCount; t++)
        {
            Subtract(vector.Parameters[t], model!.Parameter(t), difference!.Span[vector.Layout[t]]);
        }

        compressor.Compress(difference!.Span, vector.Layout, sent);
        model!.Add(sent);
    }

    /// <inheritdoc />
    /// <remarks>There is nothing to forget: what is owed is the difference of trained and deployed model.</remarks>
    public void Reset()
    {
    }

    /// <inheritdoc />
    public void SaveState(BinaryWriter writer)
    {
        StrategyState.Save(writer, nameof(ReplicaDifference));
        compressor.SaveState(writer);
    }

    /// <inheritdoc />
    public void LoadState(BinaryReader reader)
    {
        StrategyState.Check(reader, nameof(ReplicaDifference));
        compressor.LoadState(reader);
    }

    /// <inheritdoc />
    public void Dispose() => difference?.Dispose();

    private static void Subtract(Tensor trained, Tensor deployed, Span<float> result)
    {
        using var from = FloatView.Of(trained);
        using var to = FloatView.Of(deployed);
        if (from.IsDirect && to.IsDirect)
        {
            TensorPrimitives.Subtract(from.Span, to.Span, result);
            return;
        }

        // In the tensors' own dtype: a difference below float32's precision of the values counts too.
        using var current = trained.detach();
        using var change = current.sub(deployed);
        using var view = FloatView.Of(change);
        view.Span.CopyTo(result);
    }
}
