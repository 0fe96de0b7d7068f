using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace ContinuousDL.Memory;

/// <summary>
/// How often operations have written to a tensor in place, as libtorch counts it for autograd. Every view and every detached
/// handle of a tensor shares its count.
/// </summary>
/// <remarks>
/// TorchSharp does not offer the count, so libtorch's own functions are looked up by their names, which depend on the compiler;
/// where they are not found, nothing is counted. Writes by way of a tensor's address are never counted, and neither are those of
/// kernels whose schema hides them (the running statistics of batch normalisation).
/// </remarks>
internal static unsafe class TensorVersion
{
    private static readonly delegate* unmanaged[SuppressGCTransition]<nint, long> VersionOf;
    private static readonly delegate* unmanaged<nint, byte> IsInference;

    static TensorVersion()
    {
        // On Unix a library's handle finds the symbols of those that it is linked with.
        var (library, version, inference) = OperatingSystem.IsWindows()
            ? ("torch_cpu", "?_version@TensorBase@at@@QEBA_JXZ", "?is_inference@native@at@@YA_NAEBVTensor@2@@Z")
            : ("LibTorchSharp", "_ZNK2at10TensorBase8_versionEv", "_ZN2at6native12is_inferenceERKNS_6TensorE");
        if (!NativeLibrary.TryLoad(library, typeof(TensorVersion).Assembly, null, out var handle)
            || !NativeLibrary.TryGetExport(handle, version, out var versionOf)
            || !NativeLibrary.TryGetExport(handle, inference, out var isInference))
        {
            return;
        }

        VersionOf = (delegate* unmanaged[SuppressGCTransition]<nint, long>)versionOf;
        IsInference = (delegate* unmanaged<nint, byte>)isInference;
    }

    /// <summary>Whether writes to a tensor are counted: not to those made in inference mode, and to none where libtorch's functions were not found.</summary>
    /// <param name="tensor">The tensor, not disposed. Stays the caller's.</param>
    public static bool IsCounted(Tensor tensor)
    {
        if (VersionOf == null) return false;
        var counted = IsInference(tensor.Handle) == 0;
        GC.KeepAlive(tensor);
        return counted;
    }

    /// <summary>How often a tensor was written to. Takes nanoseconds.</summary>
    /// <param name="tensor">A tensor for which <see cref="IsCounted"/> holds, not disposed: libtorch ends the process for others. Stays the caller's.</param>
    public static long Of(Tensor tensor)
    {
        var version = VersionOf(tensor.Handle);
        GC.KeepAlive(tensor);
        return version;
    }
}
