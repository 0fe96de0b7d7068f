using ContinuousDL.Samples.FashionStream.Running;
using Spectre.Console;

namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>The results as a table on the terminal.</summary>
internal static class ResultTable
{
    /// <summary>Short enough for the table to fit into a terminal of 80 columns.</summary>
    private static readonly string[] Headings =
        ["prequen-\ntial %", "test\n%", "training\nseconds", "ms per\nstep", "bytes per\nupdate", "reduc-\ntion", "replica\nidentical"];

    /// <summary>Writes the table.</summary>
    public static void Write(IAnsiConsole console, IReadOnlyList<StrategyResult> results)
    {
        var table = new Table().Border(TableBorder.Simple);
        table.AddColumn(new TableColumn("strategy").NoWrap().Padding(0, 0));
        foreach (var heading in Headings) table.AddColumn(new TableColumn(heading).RightAligned().NoWrap().Padding(0, 0));

        foreach (var result in results)
        {
            var trained = result.Work.Steps > 0;
            table.AddRow(
                Markup.Escape(result.Interrupted ? $"{result.Strategy.Name} *" : result.Strategy.Name),
                Percent(result.PrequentialAccuracy),
                Percent(result.TestAccuracy),
                $"{result.Work.Duration.TotalSeconds:0.0}",
                trained ? $"{result.MillisecondsPerStep:0.00}" : "–",
                result.Work.Updates > 0 ? $"{result.BytesPerUpdate:N0}" : "–",
                result.Reduction is { } reduction ? $"{reduction:N0}×" : "–",
                result.ReplicaIdentical ? "yes" : "[bold red]NO[/]");
        }

        console.Write(table);
        console.WriteLine("Accuracies are those of the deployed model; bytes are indices and values.");
        foreach (var result in results.Where(result => result.Interrupted))
            console.MarkupLineInterpolated($"* stopped after {result.Curve.Count:N0} of {result.StreamLength:N0} samples");
    }

    private static string Percent(double share) => $"{100 * share:0.00}";
}
