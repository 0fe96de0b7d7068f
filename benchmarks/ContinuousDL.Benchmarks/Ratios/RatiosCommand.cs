using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using ContinuousDL.Benchmarks.Compression;
using ContinuousDL.Benchmarks.Models;
using ContinuousDL.Benchmarks.Steps;
using ContinuousDL.Compression;
using ContinuousDL.Deployment;
using Spectre.Console;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>The <c>ratios</c> command: measures every bar, prints a table, writes JSON.</summary>
internal static class RatiosCommand
{
    /// <summary>Calls after which the runtime compiles a method anew, with all optimizations, and a few more.</summary>
    private const int CallsToWarmUp = 60;

    /// <summary>How wide the table is where the output is not a terminal, so that names keep to one line.</summary>
    private const int WidthOfFiles = 200;

    /// <summary>Runs the command.</summary>
    /// <param name="args">The arguments, <c>ratios</c> itself first.</param>
    /// <returns>The exit code: 0 when it has measured, whether or not the bars hold.</returns>
    public static int Run(string[] args)
    {
        var json = new Option<FileInfo?>("--json") { Description = "Writes the results as JSON: name, ratio, bar, holds." };
        var filter = new Option<string?>("--filter") { Description = "Measures only the bars with this text in their names." };
        var ratios = new Command("ratios", "A short paired measurement of every bar: the median of the pairwise ratios.") { json, filter };
        ratios.SetAction(parsed => Measure(parsed.GetValue(json), parsed.GetValue(filter) ?? ""));
        return new RootCommand("Benchmarks of ContinuousDL.") { ratios }.Parse(args).Invoke();
    }

    private static int Measure(FileInfo? json, string filter)
    {
        var groups = Groups().Where(g => g.Bars.Any(b => IsWanted(b, filter))).ToList();
        if (groups.Count == 0)
        {
            Console.Error.WriteLine($"No bar has '{filter}' in its name.");
            return 1;
        }

        if (Console.IsOutputRedirected) AnsiConsole.Profile.Width = WidthOfFiles;
        AnsiConsole.MarkupLineInterpolated($"[grey]{Environment.ProcessorCount} cores, {get_num_threads()} threads of libtorch[/]");
        var start = Stopwatch.GetTimestamp();
        WarmUp();
        var results = new List<(RatioResult Result, string Detail)>();
        foreach (var group in groups)
        {
            var measured = group.Measure();
            for (var i = 0; i < group.Bars.Count; i++)
            {
                if (!IsWanted(group.Bars[i], filter)) continue;
                var result = new RatioResult(group.Bars[i], measured[i].Spread);
                results.Add((result, measured[i].Detail));
                AnsiConsole.MarkupLineInterpolated($"[grey]{result.Bar.Name}: {Format(result.Spread.Median)} ({measured[i].Detail})[/]");
            }
        }

        Print(results);
        AnsiConsole.MarkupLineInterpolated($"{results.Count(r => r.Result.Holds)} of {results.Count} bars hold; measured in {Stopwatch.GetElapsedTime(start).TotalSeconds:N0} s.");
        if (json is not null)
        {
            using var stream = json.Create();
            RatioResult.WriteJson(results.Select(r => r.Result), stream);
        }

        return 0;
    }

    private static IEnumerable<RatioGroup> Groups() =>
    [
        .. MemoryRatios.Groups(), .. CompressionRatios.Groups(), .. CompressionRatios.WorstCases(), .. OptimizerRatios.Groups(), .. StepRatios.Groups(),
        .. SamplerRatios.Groups(), .. ServingRatios.Groups(), .. DurabilityRatios.Groups(),
    ];

    private static bool IsWanted(Bar bar, string filter) => bar.Name.Contains(filter, StringComparison.OrdinalIgnoreCase);

    /// <summary>Lets the runtime optimize what is measured: methods that are called once in a step would take long to get there.</summary>
    private static void WarmUp()
    {
        var model = BenchmarkModel.Named("LeNet-5");
        foreach (var strategy in (IDeploymentStrategy?[])[null, new UpdateCompression(new TopKCompressor(1e-3)), new DenseDeployment()])
        {
            using var step = new TrainerStep(model, p => Optimizers.Fused(OptimizerKind.AdamAmsGrad, p), strategy);
            for (var i = 0; i < CallsToWarmUp; i++) step.Step();
        }

        var layout = LayerLengths.Of("LeNet-5");
        using var gradients = new HeavyTailedGradients(layout);
        foreach (var compressionScope in Enum.GetValues<CompressionScope>())
        {
            using var compression = new ErrorFeedbackTopK(layout, 1e-3, compressionScope);
            for (var i = 0; i < CallsToWarmUp; i++) compression.Step(gradients.Next());
        }
    }

    private static void Print(IEnumerable<(RatioResult Result, string Detail)> results)
    {
        var table = new Table().Border(TableBorder.Rounded).AddColumns("what", "ratio", "quartiles", "bar", "holds", "measured");
        foreach (var column in table.Columns.Skip(1).Take(3)) column.RightAligned();
        foreach (var (result, detail) in results)
        {
            var spread = result.Spread;
            table.AddRow(
                Markup.Escape(result.Bar.Name),
                Format(spread.Median),
                $"{Format(spread.Lower)}–{Format(spread.Upper)}",
                $"{(result.Bar.AtLeast ? "≥" : "≤")} {result.Bar.Limit.ToString(CultureInfo.InvariantCulture)}",
                result.Holds ? "[green]yes[/]" : "[red]no[/]",
                Markup.Escape(detail));
        }

        AnsiConsole.Write(table);
    }

    private static string Format(double ratio) => ratio.ToString(ratio < 10 ? "0.000" : "0.0", CultureInfo.InvariantCulture);
}
