using System.Collections.Concurrent;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Updates;
using Microsoft.Extensions.Logging;

namespace ContinuousDL.Cuda;

/// <summary>
/// Lets replicas of models on CUDA devices take updates with the library's kernels: an update crosses to the device once, and the
/// host waits once, for its digest. Without it they work tensor by tensor, by way of main memory, with the same result.
/// </summary>
/// <remarks>Harmless where there is no GPU: nothing is loaded before a model is on one. Thread-safe.</remarks>
/// <example>
/// <code>
/// using var replica = new ModelReplica&lt;LeNet5&gt;(() => new LeNet5().to(DeviceType.CUDA), snapshot, new CudaTensorAccess(logger));
/// </code>
/// </example>
/// <param name="logger">The logger of why the kernels can't be used, once for each reason. Default: none.</param>
public sealed class CudaTensorAccess(ILogger<CudaTensorAccess>? logger = null) : ITensorAccessProvider
{
    private readonly ConcurrentDictionary<string, bool> told = new();

    /// <inheritdoc/>
    public ITensorAccess? TryCreate(ModelTensors tensors, ITensorAccess? twin)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        if (tensors.Slots.Count == 0) return null;
        var device = tensors.Slots[0].Tensor.device;
        var model = CudaUpdateCompression.FindQueue(device, out var problem) is { } queue ? DeviceModel.TryMake(queue, tensors, twin, out problem) : null;
        if (problem is not null && logger is not null && told.TryAdd($"{device}: {problem}", true)) CudaLog.KernelsNotUsed(logger, device.ToString(), problem);
        return model;
    }
}
