using System.Diagnostics;
using System.Runtime.InteropServices;
using ContinuousDL.Cuda.Kernels;

namespace ContinuousDL.Cuda.Tests.TestDouble;

/// <summary>
/// The test double of the CUDA driver, built with g++ when it is first asked for. Its launches run the kernels on ILGPU's CPU
/// accelerator, on the arguments as the driver would have read them.
/// </summary>
internal static unsafe class DriverDouble
{
    private static readonly Lazy<(string? Path, string? Problem)> Library = new(Build);
    private static readonly LaunchCallback Callback = Run;
    private static AcceleratorQueue? accelerator;
    private static Exception? failure;

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    private delegate int LaunchCallback(int device, nint name, int groups, int groupSize, nint arguments, long bytes);

    /// <summary>The path of the library. Skips the test where it can't be built.</summary>
    public static string Path
    {
        get
        {
            if (Library.Value.Problem is { } problem) Assert.Ignore(problem);
            return Library.Value.Path!;
        }
    }

    /// <summary>What was called since the last reset, a line for each call.</summary>
    public static string[] Calls => Marshal.PtrToStringAnsi(((delegate* unmanaged<nint>)Export("double_calls"))())!.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    /// <summary>The number of modules that are loaded.</summary>
    public static int Modules => ((delegate* unmanaged<int>)Export("double_modules"))();

    /// <summary>The number of blocks of main memory that are locked.</summary>
    public static int Locked => ((delegate* unmanaged<int>)Export("double_locked"))();

    /// <summary>How many contexts the thread has pushed and not popped.</summary>
    public static int Depth => ((delegate* unmanaged<int>)Export("double_depth"))();

    /// <summary>What a launch failed of in the reference.</summary>
    public static Exception? Failure => failure;

    /// <summary>The launches since the last reset: kernel and device.</summary>
    public static string[] Launches => [.. Calls.Where(c => c.StartsWith("  ", StringComparison.Ordinal)).Select(c => c.Trim())];

    /// <summary>How often a device's context is retained.</summary>
    public static int Retained(int device) => ((delegate* unmanaged<int, int>)Export("double_retained"))(device);

    /// <summary>Begins anew.</summary>
    public static void Reset(int devices = 1, int major = 8, int minor = 6)
    {
        failure = null;
        accelerator ??= new AcceleratorQueue(groupSize: 16, fullGrid: 1);
        ((delegate* unmanaged<int, int, int, nint, void>)Export("double_reset"))(devices, major, minor, Marshal.GetFunctionPointerForDelegate(Callback));
    }

    /// <summary>Lets the n-th call of a function from now on fail.</summary>
    public static void Fail(string function, int code, int n = 1)
    {
        var name = Marshal.StringToHGlobalAnsi(function);
        ((delegate* unmanaged<nint, int, int, void>)Export("double_fail"))(name, n, code);
        Marshal.FreeHGlobal(name);
    }

    private static void* Export(string name) => (void*)NativeLibrary.GetExport(NativeLibrary.Load(Path), name);

    private static (string? Path, string? Problem) Build()
    {
        var source = System.IO.Path.Combine(AppContext.BaseDirectory, "TestDouble", "cuda_test_double.cpp");
        var target = System.IO.Path.Combine(Directory.CreateTempSubdirectory("cuda-test-double").FullName, "libcuda.so.1");
        try
        {
            using var compiler = Process.Start(new ProcessStartInfo("g++", ["-std=c++17", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", target, source]) { RedirectStandardError = true })!;
            var errors = compiler.StandardError.ReadToEnd();
            compiler.WaitForExit();
            return compiler.ExitCode == 0 ? (target, null) : throw new InvalidOperationException($"g++ refused the test double: {errors}");
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return (null, "g++ is not on the PATH, so that the CUDA driver's test double can't be built; install g++ to run this test.");
        }
    }

    /// <summary>Reads the arguments as the kernel would, and runs it; with a smaller grid, which gives the same.</summary>
    private static int Run(int device, nint name, int groups, int groupSize, nint arguments, long bytes)
    {
        try
        {
            var kernel = Marshal.PtrToStringAnsi(name)!["Kernel_".Length..];
            var values = new List<KernelArgument>();
            var at = 0;
            foreach (var parameter in KernelCatalog.Kernels[kernel].GetParameters())
            {
                if (parameter.ParameterType.IsGenericType)
                {
                    at = (at + 7) / 8 * 8;
                    values.Add(KernelArgument.View((nint)(*(long*)(arguments + at)), *(long*)(arguments + at + 8)));
                    at += 16;
                }
                else
                {
                    values.Add(*(int*)(arguments + at));
                    at += 4;
                }
            }

            bytes.Should().Be(at);
            groupSize.Should().BeLessThanOrEqualTo(SelectionKernels.GreatestGroup);
            accelerator!.Launch(kernel, Math.Min(groups, 3), CollectionsMarshal.AsSpan(values));
            return 0;
        }
        catch (Exception e)
        {
            failure = e;
            return 700;
        }
    }
}
