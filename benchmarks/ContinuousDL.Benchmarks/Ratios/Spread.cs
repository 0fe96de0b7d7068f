namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>The median of some figures, and the quartiles beside it.</summary>
internal readonly record struct Spread(double Lower, double Median, double Upper)
{
    /// <summary>Of figures in any order.</summary>
    /// <param name="figures">The figures; not none.</param>
    /// <exception cref="ArgumentException">There are none.</exception>
    public static Spread Of(IEnumerable<double> figures)
    {
        var sorted = figures.Order().ToArray();
        if (sorted.Length == 0) throw new ArgumentException("There are no figures.", nameof(figures));
        return new Spread(Quantile(0.25), Quantile(0.5), Quantile(0.75));

        double Quantile(double share)
        {
            var place = share * (sorted.Length - 1);
            var below = (int)place;
            var above = Math.Min(below + 1, sorted.Length - 1);
            return sorted[below] + ((place - below) * (sorted[above] - sorted[below]));
        }
    }

    /// <summary>Of a figure that does not vary.</summary>
    public static Spread Exactly(double figure) => new(figure, figure, figure);
}
