using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda;

/// <summary>
/// <see cref="UpdateCompression"/> with an exact top-k of the whole model and error feedback, for models on a CUDA device:
/// weights, moments and residual stay there, and only the selected coordinates cross to main memory.
/// </summary>
/// <remarks>
/// Plain TorchSharp operations, a few passes over memory for each step. Works on any device; on the CPU the result is bit for
/// bit that of <see cref="UpdateCompression"/> with the same TorchSharp optimizer, which is faster there. The library's own
/// optimizers work, but keep their moments in main memory. Memory on the device: a copy of the trainable parameters and 4 bytes
/// for each.
/// </remarks>
public sealed class CudaUpdateCompression : IDeploymentStrategy
{
    private readonly double density;
    private readonly CompressedGradient sent = new();
    private Tensor[] snapshots = [];
    private Tensor? residual;
    private TrainableVector? vector;
    private IUpdateRule? optimizer;
    private DeployedModel? model;
    private bool disposed;

    /// <summary>Makes the strategy.</summary>
    /// <param name="density">The share of the trainable coordinates that a step changes at most, in (0, 1]; at least one coordinate.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="density"/> is not in (0, 1].</exception>
    public CudaUpdateCompression(double density)
    {
        if (!(density is > 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(density), density, "density must be above 0 and at most 1.");
        this.density = density;
    }

    /// <inheritdoc />
    public void Attach(TrainableVector trainable, IUpdateRule rule, DeployedModel deployed)
    {
        ArgumentNullException.ThrowIfNull(trainable);
        if (vector is not null) throw new InvalidOperationException($"This {nameof(CudaUpdateCompression)} serves a trainer already; make a new one for each.");
        using var guard = no_grad();
        residual = zeros(trainable.Layout.Length, dtype: ScalarType.Float32, device: trainable.Parameters[0].device).DetachFromDisposeScope();
        snapshots = [.. trainable.Parameters.Select(p => p.detach().clone().DetachFromDisposeScope())];
        (vector, optimizer, model) = (trainable, rule, deployed);
    }

    /// <inheritdoc />
    public void Step()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        for (var t = 0; t < snapshots.Length; t++) _ = snapshots[t].copy_(vector!.Parameters[t].detach());
        optimizer!.BeginStep(vector!.ForRule(vector.HasGradient));
        optimizer.ApplyUpdate();
        for (var t = 0; t < snapshots.Length; t++) TakeUpdateBack(t);

        var length = vector.Layout.Length;
        var k = Math.Clamp((int)((decimal)density * length), 1, length);
        var indices = DeviceTopK.Select(residual!, k);
        Send(indices, residual!.index_select(0, indices));
    }

    /// <inheritdoc />
    public void Reset()
    {
        using var guard = no_grad();
        _ = residual!.zero_();
    }

    /// <inheritdoc />
    public void SaveState(BinaryWriter writer)
    {
        ArgumentNullException.ThrowIfNull(writer);
        using var host = residual!.cpu();
        writer.Write(host.numel());
        foreach (var value in host.data<float>()) writer.Write(value);
    }

    /// <inheritdoc />
    public void LoadState(BinaryReader reader)
    {
        ArgumentNullException.ThrowIfNull(reader);
        try
        {
            var length = reader.ReadInt64();
            if (length != residual!.numel()) throw new InvalidDataException($"The state has {length} residuals, the model {residual.numel()}.");
            var values = new float[length];
            for (var i = 0; i < values.Length; i++) values[i] = reader.ReadSingle();
            using var loaded = tensor(values);
            _ = residual.copy_(loaded);
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException("The residuals are cut short.", e);
        }
    }

    /// <inheritdoc />
    public void Dispose()
    {
        disposed = true;
        residual?.Dispose();
        foreach (var snapshot in snapshots) snapshot.Dispose();
    }

    /// <summary>Adds what the optimizer did to a parameter to what is owed, and puts the parameter back.</summary>
    private void TakeUpdateBack(int tensor)
    {
        var start = vector!.Layout.Offsets[tensor];
        var weights = vector.Parameters[tensor].detach();
        var update = weights.sub(snapshots[tensor]).to(ScalarType.Float32).flatten();
        _ = residual!.narrow(0, start, update.numel()).add_(update);
        _ = weights.copy_(snapshots[tensor]);
    }

    /// <summary>Changes the deployed model by the selected coordinates, and keeps what rounding left of them.</summary>
    private void Send(Tensor indices, Tensor values)
    {
        var (hostIndices, hostValues) = (indices.cpu(), values.cpu());
        var count = (int)hostIndices.numel();
        sent.SetSparse(vector!.Layout.Length, count);
        var source = hostIndices.data<long>();
        for (var j = 0; j < count; j++) sent.Indices[j] = (int)source[j];
        hostValues.data<float>().CopyTo(sent.Values);
        model!.Add(sent);

        using var applied = tensor(sent.Values.ToArray(), device: residual!.device);
        _ = residual.index_copy_(0, indices, values.sub(applied));
    }
}
