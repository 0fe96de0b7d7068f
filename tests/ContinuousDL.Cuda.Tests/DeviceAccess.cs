using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Deployment;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Lets the models that are made until it is disposed be worked on by a queue's kernels, although they are in main memory.</summary>
internal sealed class DeviceAccess : IDisposable
{
    private readonly ModelAccess.Provider? before;

    public DeviceAccess(IKernelQueue queue) => before = ModelAccess.Register((tensors, twin) => DeviceModel.TryMake(queue, tensors, twin, out _));

    public void Dispose() => ModelAccess.Register(before);
}
