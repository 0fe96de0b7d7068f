using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Models;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Lets models be worked on by a queue's kernels, although they are in main memory.</summary>
/// <param name="queue">The queue.</param>
/// <param name="sides">How many models: those after it are left to main memory.</param>
internal sealed class QueueAccess(IKernelQueue queue, int sides = int.MaxValue) : ITensorAccessProvider
{
    /// <summary>How many models it was asked for.</summary>
    public int Asked { get; private set; }

    public ITensorAccess? TryCreate(ModelTensors tensors, ITensorAccess? twin) => Asked++ < sides ? DeviceModel.TryMake(queue, tensors, twin, out _) : null;
}
