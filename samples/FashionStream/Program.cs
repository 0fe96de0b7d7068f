using System.Runtime.InteropServices;
using ContinuousDL.Samples.FashionStream;
using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Output;
using ContinuousDL.Samples.FashionStream.Running;
using ContinuousDL.Samples.FashionStream.Strategies;
using Spectre.Console;

// Replays a stream of images against a deployed model and compares ways to keep it fresh: --help says how.
return new CommandLine().Invoke(args, Console.Out, Console.Error, Run);

static int Run(RunOptions options)
{
    using var interrupt = new Interrupt();
    try
    {
        EnsureWritable(options);
        var data = StreamData.Load(options.DataDirectory, options.Format, options.MostTraining, options.MostTest);
        var console = CreateConsole();
        console.WriteLine(
            $"{data.InitialCount:N0} initial, {data.StreamCount:N0} streamed, {data.Test.Count:N0} test samples;"
            + $" trigger {options.Settings.Trigger}, batch {Training.BatchSize}, seed {options.Settings.Seed}");

        IReadOnlyList<StrategyResult> Replay(IProgressView view) =>
            new StreamRunner(data, options.Settings, options.Threads, view).Run(options.Strategies, interrupt.Token);

        var results = Console.IsOutputRedirected ? Replay(new PlainProgress(Console.Out)) : LiveProgress.Show(console, Replay);
        if (results.Count > 0) Report(console, options, results);

        if (interrupt.Token.IsCancellationRequested)
        {
            Console.Error.WriteLine(results.Count > 0 ? "Interrupted: these are the results so far." : "Interrupted before there was a result.");
            return ExitCode.Interrupted;
        }

        var diverged = results.FirstOrDefault(result => !result.ReplicaIdentical);
        if (diverged is null) return ExitCode.Done;
        Console.Error.WriteLine($"The replica of '{diverged.Strategy.Name}' is not identical to its trainer's deployed model.");
        return ExitCode.Failed;
    }
    catch (Exception e) when (e is DataFileException or IOException or UnauthorizedAccessException)
    {
        Console.Error.WriteLine(e.Message);
        return ExitCode.Failed;
    }
}

// Says at once what would otherwise come out after minutes.
static void EnsureWritable(RunOptions options)
{
    Directory.CreateDirectory(options.OutputDirectory);
    if (options.JsonFile is null) return;
    if (Path.GetDirectoryName(Path.GetFullPath(options.JsonFile)) is { } directory) Directory.CreateDirectory(directory);
    using var file = File.Open(options.JsonFile, FileMode.OpenOrCreate, FileAccess.Write);
}

static void Report(IAnsiConsole console, RunOptions options, IReadOnlyList<StrategyResult> results)
{
    ResultTable.Write(console, results);
    foreach (var path in Pictures.Write(options.OutputDirectory, results)) console.WriteLine($"picture: {path}");
    if (options.JsonFile is null) return;
    ResultJson.Write(options.JsonFile, results);
    console.WriteLine($"JSON: {options.JsonFile}");
}

// A file or pipe has no width to fit into: the table is never wrapped there.
static IAnsiConsole CreateConsole()
{
    var console = AnsiConsole.Console;
    if (Console.IsOutputRedirected) console.Profile.Width = 200;
    return console;
}

/// <summary>
/// Turns the first Ctrl-C (or SIGTERM) into a cancellation, so that the results so far come out; the second one ends the process.
/// </summary>
internal sealed class Interrupt : IDisposable
{
    private readonly CancellationTokenSource source = new();
    private readonly PosixSignalRegistration[] registrations;

    public Interrupt()
    {
        registrations =
        [
            PosixSignalRegistration.Create(PosixSignal.SIGINT, Cancel),
            PosixSignalRegistration.Create(PosixSignal.SIGTERM, Cancel),
        ];
    }

    public CancellationToken Token => source.Token;

    public void Dispose()
    {
        foreach (var registration in registrations) registration.Dispose();
        source.Dispose();
    }

    private void Cancel(PosixSignalContext context)
    {
        context.Cancel = !source.IsCancellationRequested;
        source.Cancel();
    }
}
