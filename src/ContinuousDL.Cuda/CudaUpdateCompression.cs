using ContinuousDL.Compression;
using ContinuousDL.Cuda.Driver;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Deployment;
using ContinuousDL.Optimization;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda;

/// <summary>
/// <see cref="UpdateCompression"/> with an exact top-k of the whole model and error feedback, for models on a CUDA device:
/// weights, moments and residual stay there, and only the selected coordinates cross to main memory.
/// </summary>
/// <remarks>
/// <para>
/// On a CUDA device of compute capability 7.0 or higher, kernels of the library's own add up and select, in torch's context and
/// stream: one pass over update and residual, and what is selected is added to the deployed weights there; the host waits once,
/// for what changed. Elsewhere, or where the driver can't be loaded, plain TorchSharp operations do the same in a few passes more;
/// the log says so once.
/// </para>
/// <para>
/// Works on any device; on the CPU the result is bit for bit that of <see cref="UpdateCompression"/> without look-ahead and with
/// the same TorchSharp optimizer, which is faster there. The library's own optimizers work, but keep their moments in main memory.
/// Memory on the device: a copy of the trainable parameters and 4 bytes for each; with the kernels, 50 bytes for each coordinate
/// that is sent, and a little more.
/// </para>
/// </remarks>
public sealed class CudaUpdateCompression : IDeploymentStrategy
{
    private readonly double density;
    private readonly CompressedGradient sent = new();
    private readonly ILogger logger;
    private readonly QueueSource source;
    private Tensor[] snapshots = [];
    private Tensor? residual;
    private TrainableVector? vector;
    private IUpdateRule? optimizer;
    private DeployedModel? model;
    private DeviceSelector? selector;
    private SelectionDeployer? deployer;
    private string? deployerProblem;
    private bool disposed;

    /// <summary>Makes the strategy.</summary>
    /// <param name="density">The share of the trainable coordinates that a step changes at most, in (0, 1]; at least one coordinate.</param>
    /// <param name="logger">Is told where the kernels can't be used. Default: nobody.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="density"/> is not in (0, 1].</exception>
    public CudaUpdateCompression(double density, ILogger<CudaUpdateCompression>? logger = null)
        : this(density, logger, FindQueue)
    {
        ContinuousDLCuda.Enable(logger);
    }

    internal CudaUpdateCompression(double density, ILogger? logger, QueueSource source)
    {
        if (!(density is > 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(density), density, "density must be above 0 and at most 1.");
        (this.density, this.logger, this.source) = (density, logger ?? NullLogger.Instance, source);
    }

    /// <summary>Finds what runs the kernels on a device.</summary>
    /// <param name="device">The device of the parameters.</param>
    /// <param name="problem">Why there is nothing; null where nothing was to be expected.</param>
    internal delegate IKernelQueue? QueueSource(Device device, out string? problem);

    /// <summary>Whether the kernels are used. Known once attached.</summary>
    internal bool UsesKernels => selector is not null;

    /// <inheritdoc />
    public void Attach(TrainableVector trainable, IUpdateRule rule, DeployedModel deployed)
    {
        ArgumentNullException.ThrowIfNull(trainable);
        if (vector is not null) throw new InvalidOperationException($"This {nameof(CudaUpdateCompression)} serves a trainer already; make a new one for each.");
        using var guard = no_grad();
        residual = zeros(trainable.Layout.Length, dtype: ScalarType.Float32, device: trainable.Parameters[0].device).DetachFromDisposeScope();
        snapshots = [.. trainable.Parameters.Select(p => p.detach().clone().DetachFromDisposeScope())];
        (vector, optimizer, model) = (trainable, rule, deployed);
        if (FindQueue(trainable) is { } queue) selector = new DeviceSelector(queue, residual, trainable.Layout);
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
        var length = vector.Layout.Length;
        var k = Math.Clamp((int)((decimal)density * length), 1, length);
        if (selector is not null)
        {
            StepWithKernels(selector, k);
            return;
        }

        for (var t = 0; t < snapshots.Length; t++)
        {
            var update = TakeUpdateBack(t);
            _ = residual!.narrow(0, vector.Layout.Offsets[t], update.numel()).add_(update);
        }

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
        deployer?.Dispose();
        selector?.Dispose();
        residual?.Dispose();
        foreach (var snapshot in snapshots) snapshot.Dispose();
    }

    /// <summary>Finds what runs the kernels on a device of this machine; a <see cref="QueueSource"/>.</summary>
    internal static IKernelQueue? FindQueue(Device device, out string? problem)
    {
        problem = null;
        return device.type == DeviceType.CUDA ? CudaDevices.Default.Find(Math.Max(0, device.index), out problem) : null;
    }

    /// <summary>What runs the kernels where the parameters are, or null; then the log says why, if they could have been expected.</summary>
    private IKernelQueue? FindQueue(TrainableVector trainable)
    {
        var device = trainable.Parameters[0].device;
        string? problem;
        if (trainable.Parameters.All(p => (p.device_type, p.device_index) == (device.type, device.index)))
        {
            if (source(device, out problem) is { } queue) return queue;
        }
        else
        {
            problem = "the parameters are on several devices";
        }

        if (problem is not null) CudaLog.KernelsNotUsed(logger, device.ToString(), problem);
        return null;
    }

    private void StepWithKernels(DeviceSelector kernels, int k)
    {
        kernels.Begin(k);
        for (var t = 0; t < snapshots.Length; t++)
        {
            // Torch gives the memory of the update to others at once, but in the order of the stream that the kernel is in, too.
            using var scope = NewDisposeScope();
            kernels.Accumulate(t, TakeUpdateBack(t).contiguous());
        }

        if (FindDeployer(kernels) is { } onDevice)
        {
            onDevice.Deploy(kernels, k);
            return;
        }

        kernels.Select(release: false);
        sent.SetSparse(vector!.Layout.Length, kernels.Count);
        kernels.Indices.CopyTo(sent.Indices);
        kernels.Values.CopyTo(sent.Values);
        model!.Add(sent);
        kernels.Subtract(sent.Values);
    }

    /// <summary>What adds the selection to the deployed parameters on their device; null where kernels can't address them.</summary>
    private SelectionDeployer? FindDeployer(DeviceSelector kernels)
    {
        if (deployer is not null || deployerProblem is not null) return deployer;
        deployer = SelectionDeployer.TryMake(kernels.Queue, model!, out deployerProblem);
        if (deployerProblem is not null) CudaLog.SumsInMainMemory(logger, deployerProblem);
        return deployer;
    }

    /// <summary>Puts a parameter back to where it was before the optimizer's step.</summary>
    /// <returns>What the step had added, float32, flat; of the caller's scope.</returns>
    private Tensor TakeUpdateBack(int tensor)
    {
        var weights = vector!.Parameters[tensor].detach();
        var update = weights.sub(snapshots[tensor]).to(ScalarType.Float32).flatten();
        _ = weights.copy_(snapshots[tensor]);
        return update;
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
