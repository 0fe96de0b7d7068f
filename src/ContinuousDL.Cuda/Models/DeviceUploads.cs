using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Models;

/// <summary>
/// What copies of one model on a device share: the update that is under way and the one before, each brought to the device once
/// for all of them, and the memory of a sum.
/// </summary>
/// <remarks>
/// Main memory that a copy is reading must not be written to: whoever wants to waits first. It seldom has to, since each update
/// waits for its digest, and with that for all copies before.
/// </remarks>
internal sealed class DeviceUploads : IDisposable
{
    private readonly IKernelQueue queue;
    private readonly Device device;
    private StagedUpdate now;
    private StagedUpdate before;
    private HostMemory? hostSum;
    private Tensor? deviceSum;

    /// <summary>Prepares for a model.</summary>
    /// <param name="queue">The device's queue. Stays the caller's.</param>
    /// <param name="device">The device.</param>
    /// <param name="layout">The model's layout.</param>
    public DeviceUploads(IKernelQueue queue, Device device, ModelLayout layout)
    {
        (this.queue, this.device, Layout) = (queue, device, layout);
        (now, before) = (new StagedUpdate(queue, device, layout), new StagedUpdate(queue, device, layout));
    }

    /// <summary>Held by whoever uses any of this.</summary>
    public Lock Gate { get; } = new();

    /// <summary>The model's layout.</summary>
    public ModelLayout Layout { get; }

    /// <summary>The device's queue.</summary>
    public IKernelQueue Queue => queue;

    /// <summary>Brings coordinates to the device, for their values to be read into.</summary>
    /// <param name="coordinates">The coordinates.</param>
    public StagedUpdate Stage(ReadOnlySpan<int> coordinates)
    {
        MakeRoom();
        now.Take(coordinates);
        return now;
    }

    /// <summary>Brings an update to the device, with a sum of 0.</summary>
    /// <param name="update">The update.</param>
    public StagedUpdate Stage(ModelUpdate update)
    {
        if (now.AwaitsValues) WaitFor(now);
        else MakeRoom();
        now.Take(update);
        return now;
    }

    /// <summary>An update on the device, which is brought there unless it is there already.</summary>
    /// <param name="update">The update.</param>
    public StagedUpdate Find(ModelUpdate update) => ReferenceEquals(now.Update, update) ? now : Stage(update);

    /// <summary>Coordinates on the device, which are brought there unless they are there already.</summary>
    /// <param name="coordinates">The coordinates.</param>
    public StagedUpdate Find(ReadOnlySpan<int> coordinates)
    {
        if (before.Coordinates.SequenceEqual(coordinates)) return before;
        if (now.Coordinates.SequenceEqual(coordinates)) return now;
        WaitFor(before);
        before.Take(coordinates);
        return before;
    }

    /// <summary>Memory of a sum on the device, which is 0 when the queue comes to what is put in next.</summary>
    public KernelArgument BeginSum()
    {
        using var guard = no_grad();
        if (hostSum is null)
        {
            // What the device's sum begins with, and never changes; and then the sum.
            hostSum = queue.AllocateHost(2 * sizeof(ulong));
            hostSum.Part<ulong>(0, 2).Clear();
            deviceSum = zeros(1, dtype: ScalarType.Int64, device: device).DetachFromDisposeScope();
        }

        var view = DeviceMemory.View(deviceSum!);
        queue.CopyToDevice((nint)view.First, hostSum.Address, sizeof(ulong));
        return view;
    }

    /// <summary>Waits for the sum.</summary>
    public ulong EndSum()
    {
        queue.CopyToHost(hostSum!.Address + sizeof(ulong), DeviceMemory.AddressOf(deviceSum!), sizeof(ulong));
        Wait();
        return hostSum.Part<ulong>(sizeof(ulong), 1)[0];
    }

    /// <summary>Waits until all that was put into the queue is done.</summary>
    public void Wait()
    {
        queue.Synchronize();
        now.IsUnderWay = before.IsUnderWay = false;
    }

    /// <summary>Frees the memory, when no copy reads it any more.</summary>
    public void Dispose()
    {
        lock (Gate)
        {
            if (now.IsUnderWay || before.IsUnderWay) WaitForGood();
            now.Dispose();
            before.Dispose();
            hostSum?.Dispose();
            deviceSum?.Dispose();
        }
    }

    private void WaitForGood()
    {
        try
        {
            Wait();
        }
        catch (CudaDriverException)
        {
            // A device that has failed reads nothing any more, and whoever uses it is told by the next call.
        }
    }

    private void MakeRoom()
    {
        (now, before) = (before, now);
        WaitFor(now);
    }

    private void WaitFor(StagedUpdate staged)
    {
        if (staged.IsUnderWay) Wait();
    }
}
