using ContinuousDL.Replication.Models;
using ContinuousDL.Samples.FashionStream.Strategies;
using ScottPlot;

namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>How a strategy is drawn: the same in every picture.</summary>
/// <param name="Color">A colour of its own.</param>
/// <param name="Pattern">How its line is dashed.</param>
/// <param name="Marker">The shape of its points.</param>
internal readonly record struct Appearance(Color Color, LinePattern Pattern, MarkerShape Marker);

/// <summary>
/// Gives each strategy a colour: a hue of Okabe and Ito's palette, which the colour-blind can tell apart, for each way of
/// keeping a model fresh, from dark to light as fewer coordinates are sent. Dashes and markers tell the ways apart, too.
/// </summary>
internal static class Palette
{
    /// <summary>How far the lightest shade of a hue goes towards white.</summary>
    private const double LightestShade = 0.55;

    private static readonly Color Black = Color.FromHex("#000000");
    private static readonly Color Grey = Color.FromHex("#8c8c8c");
    private static readonly Color Orange = Color.FromHex("#e69f00");
    private static readonly Color Vermilion = Color.FromHex("#d55e00");
    private static readonly Color Blue = Color.FromHex("#0060a8");
    private static readonly Color SkyBlue = Color.FromHex("#56b4e9");
    private static readonly Color Green = Color.FromHex("#00785a");
    private static readonly Color Olive = Color.FromHex("#8a8a00");
    private static readonly Color Purple = Color.FromHex("#b0508c");
    private static readonly Color Brown = Color.FromHex("#6b3d1e");
    private static readonly Color Salmon = Color.FromHex("#f0a080");
    private static readonly Color Pink = Color.FromHex("#e0a0c8");

    /// <summary>Assigns appearances.</summary>
    /// <param name="strategies">All strategies of a picture, in any order.</param>
    /// <returns>The appearance of each.</returns>
    public static IReadOnlyDictionary<Strategy, Appearance> Assign(IEnumerable<Strategy> strategies)
    {
        var appearances = new Dictionary<Strategy, Appearance>();
        foreach (var way in strategies.GroupBy(strategy => (strategy.Kind, strategy.Choice)))
        {
            var (hue, pattern, marker) = Look(way.Key.Kind, way.Key.Choice);
            var fromManyToFew = way
                .OrderByDescending(strategy => strategy.Density ?? 0)
                .ThenByDescending(strategy => strategy.Count ?? 0)
                .ToList();
            for (var i = 0; i < fromManyToFew.Count; i++)
            {
                var shade = fromManyToFew.Count == 1 ? 0 : LightestShade * i / (fromManyToFew.Count - 1);
                appearances[fromManyToFew[i]] = new Appearance(hue.MixedWith(Colors.White, shade), pattern, marker);
            }
        }

        return appearances;
    }

    private static (Color Hue, LinePattern Pattern, MarkerShape Marker) Look(StrategyKind kind, CoordinateChoice choice) =>
        (kind, choice) switch
        {
            (StrategyKind.Static, _) => (Grey, LinePattern.Dotted, MarkerShape.Cross),
            (StrategyKind.Retrain, _) => (Black, LinePattern.Dashed, MarkerShape.FilledSquare),
            (StrategyKind.Online, _) => (Orange, LinePattern.Dashed, MarkerShape.FilledTriangleDown),
            (StrategyKind.Dense, _) => (Brown, LinePattern.Dashed, MarkerShape.Asterisk),
            (StrategyKind.Update, CoordinateChoice.RandomK) => (SkyBlue, LinePattern.DenselyDashed, MarkerShape.OpenCircle),
            (StrategyKind.Update, _) => (Blue, LinePattern.Solid, MarkerShape.FilledCircle),
            (StrategyKind.Ahead, CoordinateChoice.RandomK) => (Salmon, LinePattern.DenselyDashed, MarkerShape.OpenDiamond),
            (StrategyKind.Ahead, _) => (Vermilion, LinePattern.Solid, MarkerShape.FilledDiamond),
            (StrategyKind.Difference, CoordinateChoice.RandomK) => (Olive, LinePattern.DenselyDashed, MarkerShape.OpenTriangleUp),
            (StrategyKind.Difference, _) => (Green, LinePattern.Solid, MarkerShape.FilledTriangleUp),
            (StrategyKind.Gradient, CoordinateChoice.RandomK) => (Pink, LinePattern.DenselyDashed, MarkerShape.OpenSquare),
            (StrategyKind.Gradient, _) => (Purple, LinePattern.Solid, MarkerShape.FilledSquare),
            _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "Not a way to keep a model fresh."),
        };

    private static Color MixedWith(this Color color, Color other, double share) => new(
        Mix(color.R, other.R, share),
        Mix(color.G, other.G, share),
        Mix(color.B, other.B, share));

    private static byte Mix(byte from, byte to, double share) => (byte)Math.Round(from + ((to - from) * share));
}
