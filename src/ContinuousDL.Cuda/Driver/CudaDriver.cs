using System.Runtime.InteropServices;
using System.Text;

namespace ContinuousDL.Cuda.Driver;

/// <summary>The functions of the CUDA driver's API that kernels need, by their addresses in the driver's library.</summary>
/// <remarks>
/// The driver, and not the CUDA runtime, is what every machine with a CUDA device has; torch's runtime works in the driver's primary
/// context of a device, and so does this. Thread-safe.
/// </remarks>
internal sealed unsafe class CudaDriver
{
    /// <summary>The size of the log that the driver's assembler may write; more is cut off.</summary>
    private const int LogBytes = 8192;

    private const int ErrorLogBuffer = 5, ErrorLogBufferSize = 6;

    private readonly delegate* unmanaged<uint, int> cuInit;
    private readonly delegate* unmanaged<int*, int> cuDeviceGetCount;
    private readonly delegate* unmanaged<int*, int, int> cuDeviceGet;
    private readonly delegate* unmanaged<int*, int, int, int> cuDeviceGetAttribute;
    private readonly delegate* unmanaged<nint*, int, int> cuDevicePrimaryCtxRetain;
    private readonly delegate* unmanaged<int, int> cuDevicePrimaryCtxRelease;
    private readonly delegate* unmanaged<nint, int> cuCtxPushCurrent;
    private readonly delegate* unmanaged<nint*, int> cuCtxPopCurrent;
    private readonly delegate* unmanaged<nint*, void*, uint, int*, void**, int> cuModuleLoadDataEx;
    private readonly delegate* unmanaged<nint, int> cuModuleUnload;
    private readonly delegate* unmanaged<nint*, nint, byte*, int> cuModuleGetFunction;
    private readonly delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int> cuLaunchKernel;
    private readonly delegate* unmanaged<nint*, nuint, uint, int> cuMemHostAlloc;
    private readonly delegate* unmanaged<nint, int> cuMemFreeHost;
    private readonly delegate* unmanaged<nint, ulong, nuint, nint, int> cuMemcpyDtoHAsync;
    private readonly delegate* unmanaged<ulong, nint, nuint, nint, int> cuMemcpyHtoDAsync;
    private readonly delegate* unmanaged<nint, int> cuStreamSynchronize;
    private readonly delegate* unmanaged<int, byte**, int> cuGetErrorName;
    private readonly delegate* unmanaged<int, byte**, int> cuGetErrorString;

    private CudaDriver(nint library)
    {
        cuInit = (delegate* unmanaged<uint, int>)Export("cuInit");
        cuDeviceGetCount = (delegate* unmanaged<int*, int>)Export("cuDeviceGetCount");
        cuDeviceGet = (delegate* unmanaged<int*, int, int>)Export("cuDeviceGet");
        cuDeviceGetAttribute = (delegate* unmanaged<int*, int, int, int>)Export("cuDeviceGetAttribute");
        cuDevicePrimaryCtxRetain = (delegate* unmanaged<nint*, int, int>)Export("cuDevicePrimaryCtxRetain");
        cuDevicePrimaryCtxRelease = (delegate* unmanaged<int, int>)Export("cuDevicePrimaryCtxRelease_v2");
        cuCtxPushCurrent = (delegate* unmanaged<nint, int>)Export("cuCtxPushCurrent_v2");
        cuCtxPopCurrent = (delegate* unmanaged<nint*, int>)Export("cuCtxPopCurrent_v2");
        cuModuleLoadDataEx = (delegate* unmanaged<nint*, void*, uint, int*, void**, int>)Export("cuModuleLoadDataEx");
        cuModuleUnload = (delegate* unmanaged<nint, int>)Export("cuModuleUnload");
        cuModuleGetFunction = (delegate* unmanaged<nint*, nint, byte*, int>)Export("cuModuleGetFunction");
        cuLaunchKernel = (delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int>)Export("cuLaunchKernel");
        cuMemHostAlloc = (delegate* unmanaged<nint*, nuint, uint, int>)Export("cuMemHostAlloc");
        cuMemFreeHost = (delegate* unmanaged<nint, int>)Export("cuMemFreeHost");
        cuMemcpyDtoHAsync = (delegate* unmanaged<nint, ulong, nuint, nint, int>)Export("cuMemcpyDtoHAsync_v2");
        cuMemcpyHtoDAsync = (delegate* unmanaged<ulong, nint, nuint, nint, int>)Export("cuMemcpyHtoDAsync_v2");
        cuStreamSynchronize = (delegate* unmanaged<nint, int>)Export("cuStreamSynchronize");
        cuGetErrorName = (delegate* unmanaged<int, byte**, int>)Export("cuGetErrorName");
        cuGetErrorString = (delegate* unmanaged<int, byte**, int>)Export("cuGetErrorString");

        void* Export(string name) => (void*)NativeLibrary.GetExport(library, name);
    }

    /// <summary>The name of the driver's library on this system.</summary>
    public static string LibraryName => OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1";

    /// <summary>The number of devices.</summary>
    public int DeviceCount
    {
        get
        {
            int count;
            Check(nameof(cuDeviceGetCount), cuDeviceGetCount(&count));
            return count;
        }
    }

    /// <summary>Loads and starts the driver.</summary>
    /// <param name="library">The name or path of its library.</param>
    /// <exception cref="DllNotFoundException">There is no such library.</exception>
    /// <exception cref="EntryPointNotFoundException">It lacks a function: it is no CUDA driver, or one from before CUDA 11.</exception>
    /// <exception cref="CudaDriverException">It doesn't start; for example, there is no device.</exception>
    public static CudaDriver Load(string library)
    {
        var driver = new CudaDriver(NativeLibrary.Load(library));
        driver.Check(nameof(cuInit), driver.cuInit(0));
        return driver;
    }

    /// <summary>A device's handle.</summary>
    /// <param name="ordinal">Its number, from 0, as torch counts them.</param>
    public int Device(int ordinal)
    {
        int device;
        Check(nameof(cuDeviceGet), cuDeviceGet(&device, ordinal));
        return device;
    }

    /// <summary>A property of a device.</summary>
    /// <param name="device">The device's handle.</param>
    /// <param name="attribute">A <c>CUdevice_attribute</c>.</param>
    public int Attribute(int device, int attribute)
    {
        int value;
        Check(nameof(cuDeviceGetAttribute), cuDeviceGetAttribute(&value, attribute, device));
        return value;
    }

    /// <summary>The context of a device that torch works in. To be given back with <see cref="ReleasePrimaryContext"/>.</summary>
    /// <param name="device">The device's handle.</param>
    public nint RetainPrimaryContext(int device)
    {
        nint context;
        Check(nameof(cuDevicePrimaryCtxRetain), cuDevicePrimaryCtxRetain(&context, device));
        return context;
    }

    /// <summary>Gives a context back.</summary>
    /// <param name="device">The device's handle.</param>
    public void ReleasePrimaryContext(int device) => Check(nameof(cuDevicePrimaryCtxRelease), cuDevicePrimaryCtxRelease(device));

    /// <summary>Makes a context the thread's current one until the result is disposed, which brings back the one before.</summary>
    /// <param name="context">The context.</param>
    public Current Enter(nint context)
    {
        Check(nameof(cuCtxPushCurrent), cuCtxPushCurrent(context));
        return new Current(this);
    }

    /// <summary>Assembles and loads a module, into the current context.</summary>
    /// <param name="ptx">Its text.</param>
    /// <exception cref="CudaDriverException">It is refused; the message has the assembler's log.</exception>
    public nint LoadModule(string ptx)
    {
        nint module;
        var text = Encoding.ASCII.GetBytes(ptx + '\0');
        var log = stackalloc byte[LogBytes];
        log[0] = 0;
        var options = stackalloc int[] { ErrorLogBuffer, ErrorLogBufferSize };

        // The driver wants the size as the value itself, in a pointer's place.
        var values = stackalloc void*[] { log, (void*)(LogBytes - 1) };
        fixed (byte* image = text)
        {
            var code = cuModuleLoadDataEx(&module, image, 2, options, values);
            log[LogBytes - 1] = 0;
            Check(nameof(cuModuleLoadDataEx), code, code == 0 ? null : Marshal.PtrToStringAnsi((nint)log));
        }

        return module;
    }

    /// <summary>Unloads a module of the current context.</summary>
    /// <param name="module">The module.</param>
    public void UnloadModule(nint module) => Check(nameof(cuModuleUnload), cuModuleUnload(module));

    /// <summary>A kernel of a module.</summary>
    /// <param name="module">The module.</param>
    /// <param name="name">The name of the kernel's entry point.</param>
    public nint Function(nint module, string name)
    {
        nint function;
        fixed (byte* text = Encoding.ASCII.GetBytes(name + '\0')) Check(nameof(cuModuleGetFunction), cuModuleGetFunction(&function, module, text));
        return function;
    }

    /// <summary>Puts a kernel into a stream of the current context. The arguments are read before it returns.</summary>
    /// <param name="function">The kernel.</param>
    /// <param name="groups">The number of groups.</param>
    /// <param name="groupSize">The number of threads of a group.</param>
    /// <param name="stream">The stream.</param>
    /// <param name="arguments">The address of each argument.</param>
    public void Launch(nint function, int groups, int groupSize, nint stream, void** arguments) =>
        Check(nameof(cuLaunchKernel), cuLaunchKernel(function, (uint)groups, 1, 1, (uint)groupSize, 1, 1, 0, stream, arguments, null));

    /// <summary>Takes main memory that stays in place, for the current context's copies. To be given back with <see cref="FreeHost"/>.</summary>
    /// <param name="bytes">The number of bytes.</param>
    public nint AllocateHost(long bytes)
    {
        nint address;
        Check(nameof(cuMemHostAlloc), cuMemHostAlloc(&address, (nuint)bytes, 0));
        return address;
    }

    /// <summary>Gives memory of <see cref="AllocateHost"/> back.</summary>
    /// <param name="address">Its address.</param>
    public void FreeHost(nint address) => Check(nameof(cuMemFreeHost), cuMemFreeHost(address));

    /// <summary>Puts a copy from the device into a stream of the current context.</summary>
    public void CopyToHost(nint target, nint source, long bytes, nint stream) =>
        Check(nameof(cuMemcpyDtoHAsync), cuMemcpyDtoHAsync(target, (ulong)source, (nuint)bytes, stream));

    /// <summary>Puts a copy to the device into a stream of the current context.</summary>
    public void CopyToDevice(nint target, nint source, long bytes, nint stream) =>
        Check(nameof(cuMemcpyHtoDAsync), cuMemcpyHtoDAsync((ulong)target, source, (nuint)bytes, stream));

    /// <summary>Waits until a stream of the current context is empty. What failed in it shows here.</summary>
    public void Synchronize(nint stream) => Check(nameof(cuStreamSynchronize), cuStreamSynchronize(stream));

    private void Check(string function, int code, string? log = null)
    {
        if (code == 0) return;
        throw new CudaDriverException(function, code, Text(cuGetErrorName, code) ?? "an unknown error", Text(cuGetErrorString, code) ?? "no description", log);
    }

    private static string? Text(delegate* unmanaged<int, byte**, int> describe, int code)
    {
        byte* text = null;
        return describe(code, &text) == 0 ? Marshal.PtrToStringAnsi((nint)text) : null;
    }

    /// <summary>The time that a context is the thread's current one.</summary>
    internal readonly struct Current(CudaDriver driver) : IDisposable
    {
        public void Dispose()
        {
            nint popped;
            driver.Check(nameof(cuCtxPopCurrent), driver.cuCtxPopCurrent(&popped));
        }
    }
}
