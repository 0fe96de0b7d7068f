using System.Reflection;
using ContinuousDL.Cuda.Kernels;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Runs the kernels on ILGPU's CPU accelerator: a thread of the process for each thread of a group, on main memory.</summary>
/// <remarks>Translating the kernels takes longer than most tests, so that queues share what is translated, and keep it until the process ends.</remarks>
internal sealed class AcceleratorQueue : IKernelQueue, IDisposable
{
    private static readonly Lazy<Context> Shared = new(() => Context.Create(builder => builder.Optimize(OptimizationLevel.O1)));
    private static readonly Dictionary<int, (Accelerator Accelerator, Dictionary<string, Kernel> Kernels)> Accelerators = [];

    private readonly Accelerator accelerator;
    private readonly Dictionary<string, Kernel> kernels;

    public AcceleratorQueue(int groupSize, int fullGrid)
    {
        (GroupSize, FullGrid) = (groupSize, fullGrid);
        var threads = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(2, groupSize));
        lock (Accelerators)
        {
            if (!Accelerators.TryGetValue(threads, out var found))
            {
                found = (new CPUDevice(threads, 1, 2).CreateCPUAccelerator(Shared.Value, CPUAcceleratorMode.Parallel), []);
                Accelerators.Add(threads, found);
            }

            (accelerator, kernels) = found;
        }
    }

    public int FullGrid { get; }

    public int GroupSize { get; }

    /// <summary>The kernels that were launched, each with the numbers among its arguments.</summary>
    public List<(string Kernel, int[] Numbers)> Launched { get; } = [];

    public void Launch(string kernel, int groups, ReadOnlySpan<KernelArgument> arguments)
    {
        var method = KernelCatalog.Kernels[kernel];
        var parameters = method.GetParameters();
        parameters.Should().HaveCount(arguments.Length);
        var values = new object[parameters.Length];
        for (var i = 0; i < values.Length; i++) values[i] = Value(parameters[i].ParameterType, arguments[i]);
        Launched.Add((kernel, [.. arguments.ToArray().Where(a => !a.IsView).Select(a => (int)a.First)]));
        if (!kernels.TryGetValue(kernel, out var loaded)) kernels.Add(kernel, loaded = accelerator.LoadKernel(method));

        loaded.Launch(accelerator.DefaultStream, new KernelConfig(groups, GroupSize), values);
        accelerator.Synchronize();
    }

    public HostMemory AllocateHost(long bytes) => MainMemory.Allocate(bytes);

    public unsafe void CopyToHost(nint target, nint source, long bytes) => Buffer.MemoryCopy((void*)source, (void*)target, bytes, bytes);

    public void CopyToDevice(nint target, nint source, long bytes) => CopyToHost(target, source, bytes);

    public void Synchronize()
    {
    }

    public void Dispose()
    {
    }

    private object Value(Type type, KernelArgument argument)
    {
        argument.IsView.Should().Be(type.IsGenericType);
        if (type == typeof(int)) return (int)argument.First;
        if (type == typeof(float)) return BitConverter.Int32BitsToSingle((int)argument.First);
        return typeof(AcceleratorQueue).GetMethod(nameof(View), BindingFlags.NonPublic | BindingFlags.Instance)!
            .MakeGenericMethod(type.GetGenericArguments()[0]).Invoke(this, [argument])!;
    }

    private object View<T>(KernelArgument argument)
        where T : unmanaged
    {
        if (argument.Length == 0) return ArrayView<T>.Empty;
        return CPUMemoryBuffer.Create(accelerator, (nint)argument.First, argument.Length, Interop.SizeOf<T>()).AsArrayView<T>(0, argument.Length);
    }
}
