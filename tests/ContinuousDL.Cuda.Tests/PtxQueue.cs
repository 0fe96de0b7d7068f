using System.Runtime.InteropServices;
using ContinuousDL.Cuda.Kernels;
using ILGPU;

namespace ContinuousDL.Cuda.Tests;

/// <summary>Runs the kernels' PTX in the interpreter, on main memory.</summary>
internal sealed class PtxQueue((int Major, int Minor) target, int groupSize, int fullGrid) : IKernelQueue
{
    private readonly Dictionary<string, PtxInterpreter> kernels =
        PtxTests.Modules(target).ToDictionary(m => m.Name, m => new PtxInterpreter(m.Ptx));

    public int FullGrid => fullGrid;

    public int GroupSize => groupSize;

    public void Launch(string kernel, int groups, ReadOnlySpan<KernelArgument> arguments)
    {
        var interpreter = kernels[kernel];
        var bytes = GC.AllocateArray<byte>(interpreter.ParameterBytes, pinned: true);
        var views = new List<(ulong, ulong)>();
        var parameters = KernelCatalog.Kernels[kernel].GetParameters();
        for (var i = 0; i < parameters.Length; i++)
        {
            var place = bytes.AsSpan(interpreter.OffsetOf(parameters[i].Name!));
            if (!arguments[i].IsView)
            {
                MemoryMarshal.Write(place, (int)arguments[i].First);
                continue;
            }

            var (first, length) = (arguments[i].First, arguments[i].Length);
            MemoryMarshal.Write(place, in first);
            MemoryMarshal.Write(place[8..], in length);
            var size = Interop.SizeOf(parameters[i].ParameterType.GetGenericArguments()[0]);
            views.Add(((ulong)first, (ulong)(first + (length * size))));
        }

        interpreter.Run(groups, GroupSize, bytes, [.. views]);
    }

    public HostMemory AllocateHost(long bytes) => MainMemory.Allocate(bytes);

    public unsafe void CopyToHost(nint to, nint from, long bytes) => Buffer.MemoryCopy((void*)from, (void*)to, bytes, bytes);

    public void CopyToDevice(nint to, nint from, long bytes) => CopyToHost(to, from, bytes);

    public void Synchronize()
    {
    }
}
