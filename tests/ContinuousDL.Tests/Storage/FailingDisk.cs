using System.Diagnostics;
using ContinuousDL.CrashTest;

namespace ContinuousDL.Tests.Storage;

/// <summary>Starts the test program in a process whose disk fails as it is told: see failing_disk.c.</summary>
internal static class FailingDisk
{
    public const int Eio = 5, Enospc = 28, Erofs = 30, Eacces = 13, Enotsup = 95, Edquot = 122;

    private static readonly string[] Compilers = ["cc", "gcc", "clang"];
    private static readonly Lazy<string?> Library = new(Compile);

    /// <summary>Runs the program.</summary>
    /// <param name="arguments">What it is to do.</param>
    /// <param name="fail">Which calls fail for which files.</param>
    /// <param name="room">How many bytes a folder can hold.</param>
    /// <returns>The lines that it has written.</returns>
    public static string[] Run(string[] arguments, string? fail = null, string? room = null)
    {
        if (!OperatingSystem.IsLinux()) Assert.Ignore("The failing disk is made for Linux.");
        if (Library.Value is not { } library)
        {
            Assert.Ignore($"The failing disk has to be compiled, and there is no C compiler: none of {string.Join(", ", Compilers)} could be run.");
            return [];
        }

        return Start(arguments, ("LD_PRELOAD", library), ("FAIL", fail), ("ROOM", room));
    }

    /// <summary>Runs the program with variables in its environment, on whatever disk there is.</summary>
    public static string[] Start(string[] arguments, params (string Name, string? Value)[] environment)
    {
        var program = Path.ChangeExtension(typeof(CrashSamples).Assembly.Location, ".dll");
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", [program, .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["OMP_NUM_THREADS"] = "1";
        foreach (var (name, value) in environment) start.Environment[name] = value;
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        var lines = process.StandardOutput.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        process.WaitForExit();
        process.ExitCode.Should().Be(0, errors.GetAwaiter().GetResult());
        return lines;
    }

    private static string? Compile()
    {
        var folder = Path.GetDirectoryName(typeof(FailingDisk).Assembly.Location)!;
        var library = Path.Combine(folder, $"failing_disk-{Environment.ProcessId}.so");
        foreach (var compiler in Compilers)
        {
            try
            {
                using var process = Process.Start(
                    new ProcessStartInfo(compiler, ["-shared", "-fPIC", "-O1", "-o", library, Path.Combine(folder, "failing_disk.c"), "-ldl"]) { RedirectStandardError = true })!;
                var errors = process.StandardError.ReadToEnd();
                process.WaitForExit();
                process.ExitCode.Should().Be(0, errors);
                return library;
            }
            catch (System.ComponentModel.Win32Exception)
            {
                // There is no such compiler.
            }
        }

        return null;
    }
}
