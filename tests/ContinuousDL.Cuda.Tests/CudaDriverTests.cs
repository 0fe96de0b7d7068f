using ContinuousDL.Cuda.Driver;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Ptx;
using ContinuousDL.Cuda.Tests.TestDouble;
using ContinuousDL.Vectors;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda.Tests;

/// <summary>The driver layer against a test double of the driver, with main memory in place of a device's. None of this has a GPU in it.</summary>
public class CudaDriverTests
{
    [SetUp]
    public void Reset() => DriverDouble.Reset();

    [Test]
    public void Steps_through_the_driver_give_what_the_compressor_gives()
    {
        using var device = Open();
        using var comparison = new Comparison(device, new VectorLayout(5000, 1, 3333));
        for (var step = 0; step < 3; step++) comparison.Step(Vectors.HeavyTailed(8334, step), 83, release: step == 1, absent: step == 2 ? 0 : -1);
        DriverDouble.Failure.Should().BeNull();
        DriverDouble.Launches.Should().OnlyContain(l => l.EndsWith(" on 0")).And.HaveCount((3 * 13) + 2);
        DriverDouble.Depth.Should().Be(0);
    }

    [Test]
    public void A_step_waits_for_the_device_once()
    {
        using var device = Open();
        using var residual = zeros(1000);
        using var gradient = rand(1000);
        using var selector = new DeviceSelector(device, residual, new VectorLayout(1000));
        DriverDouble.Calls.Should().NotContain("cuStreamSynchronize");
        selector.Begin(10);
        selector.Accumulate(0, gradient);
        selector.Select(release: true);
        DriverDouble.Calls.Count(c => c == "cuStreamSynchronize").Should().Be(1);
        DriverDouble.Calls.Count(c => c == "cuMemcpyDtoHAsync").Should().Be(3, "state, coordinates and values");
    }

    [Test]
    public void Kernels_are_loaded_once_into_torchs_context_and_unloaded()
    {
        using (var device = Open())
        {
            DriverDouble.Retained(0).Should().Be(1);
            DriverDouble.Modules.Should().Be(KernelCatalog.Kernels.Count);
            Run(device);
            Run(device);
            DriverDouble.Calls.Count(c => c == "cuModuleLoadDataEx").Should().Be(KernelCatalog.Kernels.Count);
            device.Dispose();
            device.Invoking(d => d.Synchronize()).Should().Throw<ObjectDisposedException>();
        }

        DriverDouble.Modules.Should().Be(0);
        DriverDouble.Retained(0).Should().Be(0);
        DriverDouble.Depth.Should().Be(0);
    }

    [Test]
    public void Each_of_several_devices_has_a_context_and_kernels_of_its_own()
    {
        DriverDouble.Reset(devices: 3);
        var driver = CudaDriver.Load(DriverDouble.Path);
        driver.DeviceCount.Should().Be(3);
        using var first = new CudaDevice(driver, 0);
        using var last = new CudaDevice(driver, 2);
        Run(last);
        Run(first);
        Run(last);
        DriverDouble.Launches.Select(l => l[^1]).Distinct().Should().Equal('2', '0');
        (DriverDouble.Retained(0), DriverDouble.Retained(1), DriverDouble.Retained(2)).Should().Be((1, 0, 1));
        DriverDouble.Failure.Should().BeNull();
    }

    [Test]
    public void A_device_is_found_once_and_again()
    {
        var devices = new CudaDevices(DriverDouble.Path);
        var device = devices.Find(0, out var problem);
        problem.Should().BeNull();
        devices.Find(0, out _).Should().BeSameAs(device);
        devices.Find(1, out problem).Should().BeNull();
        problem.Should().Contain("CUDA_ERROR_INVALID_DEVICE");
        DriverDouble.Calls.Count(c => c == "cuInit").Should().Be(1);
        device!.Dispose();
    }

    [TestCase(6, 1)]
    [TestCase(5, 0)]
    public void A_device_too_old_is_refused_with_its_compute_capability(int major, int minor)
    {
        DriverDouble.Reset(1, major, minor);
        new CudaDevices(DriverDouble.Path).Find(0, out var problem).Should().BeNull();
        problem.Should().Contain($"compute capability {major}.{minor}").And.Contain("7.0");
        DriverDouble.Retained(0).Should().Be(0);
    }

    [TestCase(7, 0)]
    [TestCase(8, 7)]
    [TestCase(12, 0)]
    public void A_device_gets_kernels_that_it_can_run(int major, int minor)
    {
        DriverDouble.Reset(1, major, minor);
        using var device = Open();
        Run(device);
        DriverDouble.Failure.Should().BeNull();
    }

    [Test]
    public void Without_a_driver_the_problem_says_so()
    {
        new CudaDevices("libno-such-driver.so.1").Find(0, out var problem).Should().BeNull();
        problem.Should().Contain("libno-such-driver.so.1");
    }

    [Test]
    public void A_library_that_is_no_driver_is_not_taken_for_one()
    {
        if (!OperatingSystem.IsLinux()) Assert.Ignore("Takes the C library of Linux for the driver.");
        new CudaDevices("libc.so.6").Find(0, out var problem).Should().BeNull();
        problem.Should().Contain("cuInit");
    }

    [Test]
    public void Without_a_device_the_problem_names_the_error()
    {
        DriverDouble.Reset(devices: 0);
        new CudaDevices(DriverDouble.Path).Find(0, out var problem).Should().BeNull();
        problem.Should().Be("cuInit failed with CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected.");
    }

    [TestCase("cuDeviceGet")]
    [TestCase("cuDeviceGetAttribute")]
    [TestCase("cuDevicePrimaryCtxRetain")]
    [TestCase("cuCtxPushCurrent")]
    [TestCase("cuModuleLoadDataEx")]
    [TestCase("cuModuleGetFunction")]
    public void A_failure_at_the_start_is_an_exception_and_leaves_nothing_taken(string function)
    {
        var driver = CudaDriver.Load(DriverDouble.Path);
        DriverDouble.Fail(function, 400);
        var thrown = FluentActions.Invoking(() => new CudaDevice(driver, 0)).Should().Throw<CudaDriverException>().Which;
        (thrown.Function, thrown.Code, thrown.ErrorName).Should().Be((function, 400, "CUDA_ERROR_INVALID_HANDLE"));
        thrown.Message.Should().Contain("invalid resource handle");
        (DriverDouble.Retained(0), DriverDouble.Modules, DriverDouble.Depth).Should().Be((0, 0, 0));
    }

    [TestCase("cuLaunchKernel")]
    [TestCase("cuMemcpyDtoHAsync")]
    [TestCase("cuStreamSynchronize")]
    [TestCase("cuCtxPopCurrent")]
    public void A_failure_in_a_step_is_an_exception(string function)
    {
        using var device = Open();
        DriverDouble.Fail(function, 700);
        FluentActions.Invoking(() => Run(device)).Should().Throw<CudaDriverException>().WithMessage($"{function} failed with CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access was encountered.");
    }

    [Test]
    public void A_failure_at_a_late_module_unloads_the_ones_before()
    {
        var driver = CudaDriver.Load(DriverDouble.Path);
        DriverDouble.Fail("cuModuleLoadDataEx", 218, n: 5);
        FluentActions.Invoking(() => new CudaDevice(driver, 0)).Should().Throw<CudaDriverException>().WithMessage("*CUDA_ERROR_INVALID_PTX (218)*The driver's log: ptxas fatal : test double");
        (DriverDouble.Retained(0), DriverDouble.Modules, DriverDouble.Depth).Should().Be((0, 0, 0));
    }

    [Test]
    public void An_error_that_the_driver_has_no_name_for_is_told_by_its_number()
    {
        var driver = CudaDriver.Load(DriverDouble.Path);
        DriverDouble.Fail("cuDeviceGet", 4242);
        FluentActions.Invoking(() => driver.Device(0)).Should().Throw<CudaDriverException>().WithMessage("cuDeviceGet failed with an unknown error (4242)*");
    }

    [Test]
    public void Text_that_is_no_PTX_is_refused()
    {
        var driver = CudaDriver.Load(DriverDouble.Path);
        var context = driver.RetainPrimaryContext(driver.Device(0));
        using (driver.Enter(context))
        {
            driver.Invoking(d => d.LoadModule("no PTX")).Should().Throw<CudaDriverException>().Which.Code.Should().Be(218);
            driver.Invoking(d => d.LoadModule(PtxCompiler.Compile((9, 0), ["Begin"])[0].Ptx)).Should().Throw<CudaDriverException>().Which.Code.Should().Be(209);
        }
    }

    private static CudaDevice Open() => new(CudaDriver.Load(DriverDouble.Path), 0);

    private static void Run(CudaDevice device)
    {
        using var residual = rand(100);
        using var selector = new DeviceSelector(device, residual, new VectorLayout(100));
        selector.Begin(10);
        selector.Accumulate(0, null);
        selector.Select(release: true);
        selector.Count.Should().Be(10);
    }
}
