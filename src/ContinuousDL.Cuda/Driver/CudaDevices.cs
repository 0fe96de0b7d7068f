namespace ContinuousDL.Cuda.Driver;

/// <summary>The process's devices with their kernels, each loaded once, when it is first asked for.</summary>
/// <remarks>They stay until the process ends, as torch's contexts do. Thread-safe.</remarks>
internal sealed class CudaDevices
{
    private readonly Lock gate = new();
    private readonly string library;
    private readonly Dictionary<int, (CudaDevice? Device, string? Problem)> devices = [];
    private CudaDriver? driver;

    /// <summary>The devices of a driver.</summary>
    /// <param name="library">The name or path of the driver's library.</param>
    public CudaDevices(string library) => this.library = library;

    /// <summary>Those of this machine's driver.</summary>
    public static CudaDevices Default { get; } = new(CudaDriver.LibraryName);

    /// <summary>A device with its kernels.</summary>
    /// <param name="ordinal">The device's number, from 0, as torch counts them.</param>
    /// <param name="problem">Why there is none: no driver, a device that is too old, or an error of the driver.</param>
    /// <returns>The device, null where it can't run the kernels. Shared: not to be disposed.</returns>
    public CudaDevice? Find(int ordinal, out string? problem)
    {
        lock (gate)
        {
            if (!devices.TryGetValue(ordinal, out var found)) devices.Add(ordinal, found = Load(ordinal));
            problem = found.Problem;
            return found.Device;
        }
    }

    private (CudaDevice? Device, string? Problem) Load(int ordinal)
    {
        try
        {
            driver ??= CudaDriver.Load(library);
            return (new CudaDevice(driver, ordinal), null);
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException)
        {
            return (null, $"the CUDA driver, {library}, can't be loaded: {e.Message}");
        }
        catch (Exception e) when (e is CudaDriverException or NotSupportedException)
        {
            return (null, e.Message);
        }
    }
}
