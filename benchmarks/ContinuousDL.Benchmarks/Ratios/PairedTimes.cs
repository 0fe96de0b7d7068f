using System.Diagnostics;

namespace ContinuousDL.Benchmarks.Ratios;

/// <summary>
/// Times of several variants that ran in turn, round after round, in one process: what else the machine does meets all of
/// them alike, so that the ratios within a round tell more than the times.
/// </summary>
internal sealed class PairedTimes
{
    private const int LeastRounds = 5;
    private const int WarmUps = 3;

    /// <summary>The shortest time that is measured, unless told otherwise: a variant runs as often in a round as it takes to fill it.</summary>
    private static readonly TimeSpan UsualShortest = TimeSpan.FromMilliseconds(4);

    private readonly List<double[]> rounds;

    /// <param name="rounds">For each round the time of each variant, in seconds.</param>
    public PairedTimes(IEnumerable<double[]> rounds) => this.rounds = [.. rounds];

    /// <summary>How many rounds there were.</summary>
    public int Rounds => rounds.Count;

    /// <summary>Runs the variants.</summary>
    /// <param name="budget">How long to go on, warm-up included; there are at least 5 rounds, however long they take.</param>
    /// <param name="variants">The variants, each to be run many times.</param>
    public static PairedTimes Measure(TimeSpan budget, params Action[] variants) => Measure(budget, UsualShortest, variants);

    /// <summary>Runs the variants.</summary>
    /// <param name="budget">How long to go on, warm-up included; there are at least 5 rounds, however long they take.</param>
    /// <param name="shortest">How long each variant runs in a round at least: long enough for what another one left to the caches, and to the system's reclaiming of memory, not to count.</param>
    /// <param name="variants">The variants, each to be run many times.</param>
    public static PairedTimes Measure(TimeSpan budget, TimeSpan shortest, params Action[] variants)
    {
        var start = Stopwatch.GetTimestamp();
        var repetitions = Array.ConvertAll(variants, variant => CalibrateAfterWarmUp(variant, shortest));
        GC.Collect();
        GC.WaitForPendingFinalizers();

        var rounds = new List<double[]>();
        while (rounds.Count < LeastRounds || Stopwatch.GetElapsedTime(start) < budget)
        {
            // Another one begins each time, so that none always runs in the wake of the same other.
            var times = new double[variants.Length];
            for (var i = 0; i < variants.Length; i++)
            {
                var v = (i + rounds.Count) % variants.Length;
                times[v] = Time(variants[v], repetitions[v]);
            }

            rounds.Add(times);
        }

        return new PairedTimes(rounds);
    }

    /// <summary>How long one variant takes for what another does in 1.</summary>
    /// <param name="variant">The index of the one.</param>
    /// <param name="baseline">The index of the other.</param>
    /// <param name="factor">What the ratio is multiplied by, where the two don't do the same amount. Default: 1.</param>
    public Spread Ratio(int variant, int baseline, double factor = 1) => Spread.Of(rounds.Select(r => r[variant] / r[baseline] * factor));

    /// <summary>The median time of a variant.</summary>
    public TimeSpan Median(int variant) => TimeSpan.FromSeconds(Spread.Of(rounds.Select(r => r[variant])).Median);

    private static int CalibrateAfterWarmUp(Action variant, TimeSpan shortest)
    {
        for (var i = 0; i < WarmUps; i++) variant();
        var once = Math.Max(Time(variant, 1), 1e-7);
        return (int)Math.Ceiling(Math.Max(1, shortest.TotalSeconds / once));
    }

    private static double Time(Action variant, int repetitions)
    {
        var start = Stopwatch.GetTimestamp();
        for (var i = 0; i < repetitions; i++) variant();
        return Stopwatch.GetElapsedTime(start).TotalSeconds / repetitions;
    }
}
