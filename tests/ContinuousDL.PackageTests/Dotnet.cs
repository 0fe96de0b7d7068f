using System.Diagnostics;
using System.Text;

namespace ContinuousDL.PackageTests;

/// <summary>Runs the <c>dotnet</c> command as in a shell: without the settings that the test host inherited from MSBuild.</summary>
internal static class Dotnet
{
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(5);

    /// <summary>Runs the command in a folder; where it fails, the test fails with what it wrote.</summary>
    /// <returns>What the command wrote, standard output first.</returns>
    internal static string Run(string folder, params string[] arguments)
    {
        var (exitCode, output) = TryRun(folder, arguments);
        return exitCode == 0
            ? output
            : throw new InvalidOperationException($"dotnet {string.Join(' ', arguments)} in {folder} gave {exitCode}:\n{output}");
    }

    /// <summary>Runs a command that restores packages; skips the test where those of others are neither cached nor within reach.</summary>
    internal static string RunWithRestore(string folder, params string[] arguments)
    {
        var (exitCode, output) = TryRun(folder, arguments);
        if (exitCode == 0) return output;

        var missing = output.Split('\n').FirstOrDefault(line =>
            line.Contains("error NU1301") || (line.Contains("error NU110") && !line.Contains("package ContinuousDL")));
        if (missing is not null) Assert.Ignore($"No package source within reach, and the package cache lacks something: {missing.Trim()}");
        throw new InvalidOperationException($"dotnet {string.Join(' ', arguments)} in {folder} gave {exitCode}:\n{output}");
    }

    /// <summary>Runs a published program; where it fails, the test fails with what it wrote.</summary>
    /// <returns>What the program wrote, standard output first.</returns>
    internal static string RunProgram(string path)
    {
        var (exitCode, output) = TryRunFile(path, Path.GetDirectoryName(path)!);
        return exitCode == 0 ? output : throw new InvalidOperationException($"{path} gave {exitCode}:\n{output}");
    }

    internal static (int ExitCode, string Output) TryRun(string folder, params string[] arguments) =>
        TryRunFile(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", folder, arguments);

    private static (int ExitCode, string Output) TryRunFile(string file, string folder, params string[] arguments)
    {
        var start = new ProcessStartInfo(file, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (var name in start.Environment.Keys.Where(name => name.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase)).ToList())
        {
            start.Environment.Remove(name);
        }

        // A build server that outlives the test would hold its folder.
        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        start.Environment["DOTNET_CLI_UI_LANGUAGE"] = "en";
        start.Environment["DOTNET_NOLOGO"] = "1";

        using var process = new Process { StartInfo = start };
        var output = new StringBuilder();
        var errors = new StringBuilder();
        process.OutputDataReceived += (_, e) => Append(output, e.Data);
        process.ErrorDataReceived += (_, e) => Append(errors, e.Data);
        process.Start();
        process.StandardInput.Close();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        if (!process.WaitForExit(s_timeout))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{file} {string.Join(' ', arguments)} in {folder} took longer than {s_timeout}:\n{output}{errors}");
        }

        process.WaitForExit();
        return (process.ExitCode, $"{output}{errors}");
    }

    private static void Append(StringBuilder text, string? line)
    {
        if (line is null) return;
        lock (text) text.Append(line).Append('\n');
    }
}
