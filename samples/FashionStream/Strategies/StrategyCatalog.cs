using System.Globalization;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>The names of the strategies, and what they stand for.</summary>
/// <remarks>
/// A sparse strategy is named after what is compressed, by what, and to which density: <c>update-topk-1e-3</c>. In place of a
/// density, <c>k1</c> stands for one coordinate a step. Without one, it is expanded to the densities of the command line.
/// </remarks>
internal static class StrategyCatalog
{
    /// <summary>The density of a sparse strategy that names none, where the command line doesn't give one.</summary>
    public const double DefaultDensity = 1e-3;

    private static readonly (string Name, StrategyKind Kind)[] Dense =
    [
        ("static", StrategyKind.Static),
        ("retrain", StrategyKind.Retrain),
        ("online", StrategyKind.Online),
        ("dense", StrategyKind.Dense),
    ];

    private static readonly (string Prefix, StrategyKind Kind, CoordinateChoice Choice)[] Sparse =
    [
        ("update-topk", StrategyKind.Update, CoordinateChoice.TopK),
        ("update-randomk", StrategyKind.Update, CoordinateChoice.RandomK),
        ("ahead-topk", StrategyKind.Ahead, CoordinateChoice.TopK),
        ("ahead-randomk", StrategyKind.Ahead, CoordinateChoice.RandomK),
        ("difference-topk", StrategyKind.Difference, CoordinateChoice.TopK),
        ("difference-randomk", StrategyKind.Difference, CoordinateChoice.RandomK),
        ("gradient-topk", StrategyKind.Gradient, CoordinateChoice.TopK),
        ("gradient-randomk", StrategyKind.Gradient, CoordinateChoice.RandomK),
    ];

    /// <summary>What a run compares unless told otherwise.</summary>
    public static IReadOnlyList<string> DefaultNames { get; } =
    [
        "static", "retrain", "online", "dense",
        "update-topk-1e-2", "update-topk-1e-3", "update-topk-1e-4", "update-randomk-1e-2",
        "ahead-topk-1e-2", "ahead-topk-1e-3", "ahead-topk-1e-4",
        "difference-topk-1e-2", "difference-topk-1e-3", "difference-topk-1e-4",
        "gradient-topk-1e-3",
    ];

    /// <summary>What a run compares when densities are given but no names: all of these at each density.</summary>
    public static IReadOnlyList<string> NamesForDensities { get; } =
        ["static", "retrain", "online", "dense", "update-topk", "update-randomk", "ahead-topk", "difference-topk", "gradient-topk"];

    /// <summary>A sentence that lists the names.</summary>
    public static string Description { get; } =
        $"{string.Join(", ", Dense.Select(d => d.Name))}, and {string.Join(", ", Sparse.Select(s => s.Prefix))}, each followed by "
        + "a density (update-topk-1e-3), by k and a number of coordinates (update-topk-k1), or by nothing to take those of --density";

    /// <summary>Looks up names.</summary>
    /// <param name="names">Names, in the order of the result.</param>
    /// <param name="densities">The densities that a sparse strategy without one is expanded to, each in (0, 1]. At least one.</param>
    /// <exception cref="FormatException">A name is unknown. The message says which ones there are.</exception>
    public static IReadOnlyList<Strategy> Find(IEnumerable<string> names, IReadOnlyList<double> densities) =>
        [.. names.SelectMany(name => Find(name.Trim().ToLowerInvariant(), densities)).DistinctBy(strategy => strategy.Name)];

    /// <summary>Reads a density: a number in (0, 1].</summary>
    public static bool TryParseDensity(string text, out double density) =>
        double.TryParse(text, NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent, CultureInfo.InvariantCulture, out density)
        && density is > 0 and <= 1;

    private static IEnumerable<Strategy> Find(string name, IReadOnlyList<double> densities)
    {
        foreach (var (denseName, kind) in Dense)
        {
            if (name == denseName) return [new Strategy(name, kind)];
        }

        foreach (var (prefix, kind, choice) in Sparse)
        {
            if (name == prefix)
                return densities.Select(density => new Strategy($"{prefix}-{Format(density)}", kind, choice, density));
            if (name.StartsWith(prefix + "-", StringComparison.Ordinal))
                return [WithAmount(name, prefix, kind, choice)];
        }

        throw new FormatException($"'{name}' is not a strategy; there are {Description}");
    }

    private static Strategy WithAmount(string name, string prefix, StrategyKind kind, CoordinateChoice choice)
    {
        var amount = name[(prefix.Length + 1)..];
        if (TryParseDensity(amount, out var density)) return new Strategy($"{prefix}-{Format(density)}", kind, choice, density);
        if (amount.StartsWith('k') && int.TryParse(amount.AsSpan(1), NumberStyles.None, CultureInfo.InvariantCulture, out var count) && count > 0)
            return new Strategy($"{prefix}-k{count}", kind, choice, Count: count);
        throw new FormatException(
            $"'{name}' ends in '{amount}', which is neither a density in (0, 1] like 1e-3 nor a number of coordinates like k1");
    }

    /// <summary>1e-3 rather than 0.001, so that one density has one name.</summary>
    private static string Format(double density) => density.ToString("0.####e-0", CultureInfo.InvariantCulture);
}
