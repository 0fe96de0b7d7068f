using System.Collections.Concurrent;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Deployment;
using ContinuousDL.Parameters;
using Microsoft.Extensions.Logging;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda;

/// <summary>Makes the kernels the way in which a process works on models on CUDA devices.</summary>
public static class ContinuousDLCuda
{
    private static readonly ConcurrentDictionary<string, bool> Told = new();
    private static ILogger? log;

    /// <summary>
    /// Lets replicas that are made from now on, of models on CUDA devices, take updates with the library's kernels: an update crosses
    /// to the device once, and the host waits once, for its digest. Without this they work tensor by tensor, by way of main memory,
    /// with the same result.
    /// </summary>
    /// <remarks>
    /// For a process that only serves; <see cref="CudaUpdateCompression"/> and <c>AddContinuousDLCuda</c> do it by themselves. Doing so
    /// again is harmless, and so is it where there is no GPU: nothing is loaded before a model is on one. Thread-safe.
    /// </remarks>
    /// <param name="logger">Is told, once for each reason, where the kernels can't be used. Default: nobody, or who was named before.</param>
    public static void Enable(ILogger? logger = null)
    {
        if (logger is not null) Volatile.Write(ref log, logger);
        _ = ModelAccess.Register(Find);
    }

    private static DeviceModel? Find(ModelTensors tensors, IModelAccess? twin)
    {
        if (tensors.Slots.Length == 0) return null;
        var device = tensors.Slots[0].Tensor.device;
        var model = CudaUpdateCompression.FindQueue(device, out var problem) is { } queue ? DeviceModel.TryMake(queue, tensors, twin, out problem) : null;
        if (problem is not null && Volatile.Read(ref log) is { } logger && Told.TryAdd($"{device}: {problem}", true))
        {
            CudaLog.KernelsNotUsed(logger, device.ToString(), problem);
        }

        return model;
    }
}
