using System.Numerics.Tensors;
using ContinuousDL.Compression;
using ContinuousDL.Memory;
using ContinuousDL.Optimization;
using ContinuousDL.State;
using ContinuousDL.Vectors;
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
    private StillTensors? still;

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
        AttachOnce.ThrowIfAttached(vector, this);
        deployed.SeparateParameters();
        difference = new NativeBuffer<float>(trainable.Layout.Length);
        (vector, optimizer, model, still) = (trainable, rule, deployed, new StillTensors(trainable));
    }

    /// <inheritdoc />
    public void Step()
    {
        still!.Begin();
        optimizer!.BeginStep(vector!.ForRule(vector.HasGradient));
        optimizer.ApplyUpdate();
        for (var t = 0; t < vector.Layout.TensorCount; t++)
        {
            if (still.Drops(t)) TakeDeployed(t);
            if (vector.HasGradient[t]) Subtract(t);
            else difference!.Span[vector.Layout[t]].Clear();
        }

        compressor.Compress(difference!.Span, vector.Layout, sent);
        still.Exclude(sent);
        model!.Add(sent);
    }

    /// <inheritdoc />
    /// <remarks>There is nothing to forget: what is owed is the difference of trained and deployed model.</remarks>
    public void Reset() => still!.Reset();

    string IStateful.StateKind => nameof(ReplicaDifference);

    void IStateful.WriteState(BinaryWriter writer) => compressor.SaveState(writer);

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var take = compressor.ReadState(reader);
        return () =>
        {
            take();
            still!.AssumeOwed();
        };
    }

    /// <inheritdoc />
    public void Dispose() => difference?.Dispose();

    /// <summary>Takes the difference of one tensor, block by block, so that it can be checked while it is in the cache.</summary>
    private void Subtract(int tensor)
    {
        var (trained, deployed) = (vector!.Parameters[tensor], model!.Parameter(tensor));
        var result = difference!.Span[vector.Layout[tensor]];
        using var from = FloatView.Of(trained);
        using var to = FloatView.Of(deployed);
        var direct = from.IsDirect && to.IsDirect;
        if (!direct) SubtractInOwnDType(trained, deployed, result);
        for (var start = 0; start < result.Length; start += FusedOptimizer.BlockSize)
        {
            var block = result.Slice(start, Math.Min(FusedOptimizer.BlockSize, result.Length - start));
            var current = from.Span.Slice(start, block.Length);
            var before = to.Span.Slice(start, block.Length);
            if (direct) TensorPrimitives.Subtract(current, before, block);
            if (!Finiteness.AllFinite(block) && !ClearWhatIsTheSame(current, before, block)) throw model.NotFinite(tensor);
        }
    }

    /// <summary>A difference below float32's precision of the values counts too.</summary>
    private static void SubtractInOwnDType(Tensor trained, Tensor deployed, Span<float> result)
    {
        using var current = trained.detach();
        using var change = current.sub(deployed);
        using var view = FloatView.Of(change);
        view.Span.CopyTo(result);
    }

    /// <summary>Infinities that are the same differ by 0, and not by what their subtraction gives.</summary>
    /// <returns>Whether all differences are finite now.</returns>
    private static bool ClearWhatIsTheSame(ReadOnlySpan<float> trained, ReadOnlySpan<float> deployed, Span<float> difference)
    {
        for (var i = 0; i < difference.Length; i++)
        {
            if (float.IsFinite(difference[i])) continue;
            if (!float.IsNaN(difference[i]) || !trained[i].Equals(deployed[i])) return false;
            difference[i] = 0;
        }

        return true;
    }

    /// <summary>Gives up how far training is ahead in one tensor.</summary>
    private void TakeDeployed(int tensor)
    {
        using var guard = TorchSharp.torch.no_grad();
        using var trained = vector!.Parameters[tensor].detach();
        _ = trained.copy_(model!.Parameter(tensor));
    }
}
