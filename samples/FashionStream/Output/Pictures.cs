using ContinuousDL.Samples.FashionStream.Running;
using ContinuousDL.Samples.FashionStream.Strategies;
using ScottPlot;
using ScottPlot.TickGenerators;

namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>The results as two pictures: accuracy over the stream, and accuracy against the bytes that were sent for it.</summary>
internal static class Pictures
{
    /// <summary>The width of a picture in pixels.</summary>
    public const int Width = 1400;

    /// <summary>The height of a picture in pixels.</summary>
    public const int Height = 800;

    /// <summary>The file name of the first picture.</summary>
    public const string AccuracyOverStream = "accuracy-over-stream.png";

    /// <summary>The file name of the second picture.</summary>
    public const string AccuracyAgainstBytes = "accuracy-against-bytes.png";

    /// <summary>A curve's average is over this share of the stream: short enough to see a change, long enough to tell curves apart.</summary>
    private const int WindowsPerStream = 5;

    private const int PointsPerCurve = 250;
    private const float TextSize = 20;
    private const float MarkerSize = 18;

    /// <summary>Writes both pictures.</summary>
    /// <param name="directory">Where to; made if it doesn't exist.</param>
    /// <param name="results">The results, at least one.</param>
    /// <returns>The paths of the files.</returns>
    /// <exception cref="IOException">They can't be written.</exception>
    public static IReadOnlyList<string> Write(string directory, IReadOnlyList<StrategyResult> results)
    {
        EmbeddedFont.Use();
        Directory.CreateDirectory(directory);
        var appearances = Palette.Assign(results.Select(result => result.Strategy));
        using var overStream = DrawAccuracyOverStream(results, appearances);
        using var againstBytes = DrawAccuracyAgainstBytes(results, appearances);
        return [Save(overStream, directory, AccuracyOverStream), Save(againstBytes, directory, AccuracyAgainstBytes)];
    }

    private static Plot DrawAccuracyOverStream(IReadOnlyList<StrategyResult> results, IReadOnlyDictionary<Strategy, Appearance> appearances)
    {
        var window = Math.Max(1, results[0].StreamLength / WindowsPerStream);
        var floor = Floor(results);
        var (lowest, highest) = (100.0, 0.0);
        var plot = new Plot();
        foreach (var result in results.OrderByDescending(result => result.PrequentialAccuracy))
        {
            var (x, y) = Curve(result.Curve, window);
            var line = plot.Add.ScatterLine(x, y);
            var look = appearances[result.Strategy];
            line.LineColor = look.Color;
            line.LinePattern = look.Pattern;
            line.LineWidth = 3;
            line.LegendText = Legend(result, floor);
            if (result.PrequentialAccuracy < floor) continue;
            lowest = Math.Min(lowest, y.Min());
            highest = Math.Max(highest, y.Max());
        }

        plot.Title("Accuracy of the deployed model on new samples, before it is trained on them");
        plot.XLabel("samples streamed");
        plot.YLabel($"accuracy over the last {window:N0} samples, %");
        plot.Axes.Bottom.TickGenerator = new NumericAutomatic { LabelFormatter = x => x.ToString("N0") };
        Finish(plot);
        SetVerticalLimits(plot, lowest, highest);
        return plot;
    }

    private static Plot DrawAccuracyAgainstBytes(IReadOnlyList<StrategyResult> results, IReadOnlyDictionary<Strategy, Appearance> appearances)
    {
        var plot = new Plot();
        var ranked = results.OrderByDescending(result => result.PrequentialAccuracy).ToList();
        var floor = Floor(results);
        var places = SideBySide(ranked, floor);
        for (var i = 0; i < ranked.Count; i++)
        {
            var look = appearances[ranked[i].Strategy];
            var accuracy = 100 * ranked[i].PrequentialAccuracy;
            if (places[i] is not { } place)
            {
                // Nothing sent has no place on a logarithmic axis: a level to compare with instead.
                var level = plot.Add.HorizontalLine(accuracy, 3, look.Color, look.Pattern);
                level.LegendText = Legend(ranked[i], floor);
                continue;
            }

            var point = plot.Add.Marker(place, accuracy, look.Marker, MarkerSize, look.Color);
            point.MarkerStyle.LineWidth = 3;
            point.MarkerStyle.OutlineColor = Colors.White;
            point.MarkerStyle.OutlineWidth = 1.5f;
            point.LegendText = Legend(ranked[i], floor);
        }

        plot.Title("Accuracy of the deployed model against what was sent to keep it fresh");
        plot.XLabel("bytes sent over the whole stream, indices and values");
        plot.YLabel("prequential accuracy, %");
        plot.Axes.Bottom.TickGenerator = new NumericAutomatic
        {
            IntegerTicksOnly = true,
            LabelFormatter = exponent => ProgressText.Size(Math.Pow(10, exponent)).Replace(".00", "").Replace(".0", ""),
            MinorTickGenerator = new LogDecadeMinorTickGenerator(),
        };
        Finish(plot);
        plot.Axes.Margins(horizontal: 0.08, vertical: 0.1);
        var shown = ranked.Where(result => result.PrequentialAccuracy >= floor).Select(result => 100 * result.PrequentialAccuracy).ToList();
        SetVerticalLimits(plot, shown.Min(), shown.Max());
        return plot;
    }

    /// <summary>
    /// Where each result goes on the axis of bytes: at its logarithm, or a marker's width beside it where another result of as
    /// many bytes and nearly the same accuracy would cover it. Null where nothing was sent.
    /// </summary>
    /// <param name="results">The results, the best first.</param>
    /// <param name="floor">The accuracy below which a result is not shown.</param>
    private static double?[] SideBySide(List<StrategyResult> results, double floor)
    {
        var sent = results.Where(result => result.Work.Bytes > 0).ToList();
        var places = new double?[results.Count];
        if (sent.Count == 0) return places;

        var decades = Math.Max(0.1, Math.Log10((double)sent.Max(result => result.Work.Bytes) / sent.Min(result => result.Work.Bytes)));
        var width = MarkerSize / (double)Width * 1.6 * decades;
        var lowest = results.Last(result => result.PrequentialAccuracy >= floor).PrequentialAccuracy;
        var height = MarkerSize / (double)Height * 1.6 * (results[0].PrequentialAccuracy - lowest);
        for (var i = 0; i < results.Count; i++)
        {
            if (results[i].Work.Bytes == 0) continue;
            var place = Math.Log10(results[i].Work.Bytes);
            while (IsTaken(place, i)) place += width;
            places[i] = place;
        }

        return places;

        bool IsTaken(double place, int result)
        {
            for (var other = 0; other < result; other++)
            {
                if (places[other] is { } taken && Math.Abs(taken - place) < 0.99 * width
                    && Math.Abs(results[other].PrequentialAccuracy - results[result].PrequentialAccuracy) < height)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>Points from where the first window is full; a stream shorter than a window gives what there is.</summary>
    private static (double[] X, double[] Y) Curve(PrequentialCurve curve, int window)
    {
        var first = Math.Min(window, curve.Count);
        var points = Math.Min(PointsPerCurve, curve.Count - first + 1);
        var x = new double[points];
        var y = new double[points];
        for (var i = 0; i < points; i++)
        {
            var count = points == 1 ? curve.Count : first + (int)((long)(curve.Count - first) * i / (points - 1));
            (x[i], y[i]) = (count, 100 * curve.AccuracyInWindow(count, window));
        }

        return (x, y);
    }

    /// <summary>The legend is sorted by accuracy, so that its order is that of the curves and points.</summary>
    private static string Legend(StrategyResult result, double floor) =>
        $"{result.Strategy.Name}  {100 * result.PrequentialAccuracy:0.0} %{(result.PrequentialAccuracy < floor ? " (below)" : "")}";

    /// <summary>
    /// The accuracy below which a strategy is left out of the scale: one that ruins its model would press all the others
    /// together. What lies far below the middle, compared with how far the best lies above it, only shows in the legend.
    /// </summary>
    private static double Floor(IReadOnlyList<StrategyResult> results)
    {
        var accuracies = results.Select(result => result.PrequentialAccuracy).Order().ToList();
        var median = accuracies[accuracies.Count / 2];
        return median - Math.Max(0.1, 3 * (accuracies[^1] - median));
    }

    private static void SetVerticalLimits(Plot plot, double lowest, double highest)
    {
        var margin = Math.Max(0.1, 0.08 * (highest - lowest));
        plot.Axes.SetLimitsY(lowest - margin, highest + margin);
    }

    private static void Finish(Plot plot)
    {
        plot.Axes.Title.Label.FontSize = TextSize + 4;
        plot.Axes.Title.Label.Bold = false;
        foreach (var label in new[] { plot.Axes.Bottom.Label, plot.Axes.Left.Label })
        {
            label.FontSize = TextSize;
            label.Bold = false;
        }

        plot.Axes.Bottom.TickLabelStyle.FontSize = TextSize - 2;
        plot.Axes.Left.TickLabelStyle.FontSize = TextSize - 2;
        plot.Axes.Left.MinimumSize = 100;
        plot.Legend.FontSize = TextSize - 2;
        plot.Legend.SymbolWidth = 44;
        plot.Legend.SymbolPadding = 10;
        plot.Legend.OutlineWidth = 0;
        plot.Legend.ShadowColor = Colors.Transparent;
        plot.ShowLegend(Edge.Right);
    }

    private static string Save(Plot plot, string directory, string name)
    {
        var path = Path.Combine(directory, name);
        plot.SavePng(path, Width, Height);
        return path;
    }
}
