using System.Collections.Concurrent;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Ptx;

namespace ContinuousDL.Cuda.Driver;

/// <summary>The kernels on one CUDA device, loaded into the context that torch works in and launched in torch's stream.</summary>
/// <remarks>
/// <para>
/// TorchSharp has no way to change torch's current stream, so that it is always the default one, which is stream 0 in the driver
/// too: kernels run after what torch was asked to do before, and before what it is asked to do after.
/// </para>
/// <para>Thread-safe. Where something fails half-way, what was taken so far is given back.</para>
/// </remarks>
internal sealed unsafe class CudaDevice : IKernelQueue, IDisposable
{
    private const int ComputeCapabilityMajor = 75, ComputeCapabilityMinor = 76, MultiprocessorCount = 16;
    private const int GroupsPerMultiprocessor = 8;
    private const nint TorchStream = 0;

    private static readonly ConcurrentDictionary<(int Major, int Minor), Lazy<IReadOnlyList<(string Name, string Ptx)>>> Texts = new();

    private readonly CudaDriver driver;
    private readonly int device;
    private readonly nint context;
    private readonly List<nint> modules = [];
    private readonly Dictionary<string, nint> functions = [];
    private bool disposed;

    /// <summary>Loads the kernels.</summary>
    /// <param name="driver">The driver.</param>
    /// <param name="ordinal">The device's number, from 0, as torch counts them.</param>
    /// <exception cref="NotSupportedException">The device is older than all the targets of <see cref="PtxCompiler"/>.</exception>
    /// <exception cref="CudaDriverException">A call of the driver failed.</exception>
    public CudaDevice(CudaDriver driver, int ordinal)
    {
        this.driver = driver;
        device = driver.Device(ordinal);
        var (major, minor) = (driver.Attribute(device, ComputeCapabilityMajor), driver.Attribute(device, ComputeCapabilityMinor));
        var target = PtxCompiler.TargetFor(major, minor) ?? throw new NotSupportedException(
            $"Device {ordinal} has compute capability {major}.{minor}; the kernels need {PtxCompiler.Targets[0].Major}.{PtxCompiler.Targets[0].Minor}.");
        FullGrid = GroupsPerMultiprocessor * driver.Attribute(device, MultiprocessorCount);
        context = driver.RetainPrimaryContext(device);
        try
        {
            using var current = driver.Enter(context);
            foreach (var (name, ptx) in Texts.GetOrAdd(target, t => new(() => PtxCompiler.Compile(t))).Value)
            {
                modules.Add(driver.LoadModule(ptx));
                functions.Add(name, driver.Function(modules[^1], PtxCompiler.EntryPoint(name)));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public int FullGrid { get; }

    /// <inheritdoc/>
    public int GroupSize => 256;

    /// <inheritdoc/>
    public void Launch(string kernel, int groups, ReadOnlySpan<KernelArgument> arguments)
    {
        ObjectDisposedException.ThrowIf(disposed, this);

        // An argument's address and length lie one after the other, as a kernel takes a view; a number is the start of its address.
        fixed (KernelArgument* first = arguments)
        {
            var addresses = stackalloc void*[arguments.Length];
            for (var i = 0; i < arguments.Length; i++) addresses[i] = first + i;
            using var current = driver.Enter(context);
            driver.Launch(functions[kernel], groups, GroupSize, TorchStream, addresses);
        }
    }

    /// <inheritdoc/>
    public HostMemory AllocateHost(long bytes)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        using var current = driver.Enter(context);
        return new HostMemory(driver.AllocateHost(bytes), bytes, FreeHost);
    }

    /// <inheritdoc/>
    public void CopyToHost(nint target, nint source, long bytes)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        using var current = driver.Enter(context);
        driver.CopyToHost(target, source, bytes, TorchStream);
    }

    /// <inheritdoc/>
    public void CopyToDevice(nint target, nint source, long bytes)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        using var current = driver.Enter(context);
        driver.CopyToDevice(target, source, bytes, TorchStream);
    }

    /// <inheritdoc/>
    public void Synchronize()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        using var current = driver.Enter(context);
        driver.Synchronize(TorchStream);
    }

    private void FreeHost(nint address)
    {
        // With the context, its memory is gone.
        if (disposed) return;
        try
        {
            using var current = driver.Enter(context);
            driver.FreeHost(address);
        }
        catch (CudaDriverException)
        {
            // A context that has failed frees nothing, and whoever uses it is told by the next call.
        }
    }

    /// <summary>Unloads the kernels and gives the context back.</summary>
    public void Dispose()
    {
        if (disposed) return;
        disposed = true;
        try
        {
            using var current = driver.Enter(context);
            foreach (var module in modules) driver.UnloadModule(module);
        }
        finally
        {
            driver.ReleasePrimaryContext(device);
        }
    }
}
