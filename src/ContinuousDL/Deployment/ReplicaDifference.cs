using System.Numerics.Tensors;
using ContinuousDL.Compression;
using ContinuousDL.Memory;
using ContinuousDL.Optimization;

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
            using var trained = FloatView.Of(vector.Parameters[t]);
            using var deployed = FloatView.Of(model!.Parameter(t));
            TensorPrimitives.Subtract(trained.Span, deployed.Span, difference!.Span[vector.Layout[t]]);
        }

        compressor.Compress(difference!.Span, vector.Layout, sent);
        model!.Add(sent);
    }

    /// <inheritdoc />
    public void SaveState(BinaryWriter writer) => compressor.SaveState(writer);

    /// <inheritdoc />
    public void LoadState(BinaryReader reader) => compressor.LoadState(reader);

    /// <inheritdoc />
    public void Dispose() => difference?.Dispose();
}
