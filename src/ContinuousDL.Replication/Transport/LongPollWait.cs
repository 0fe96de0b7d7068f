namespace ContinuousDL.Replication.Transport;

/// <summary>
/// How long a server is asked to wait for news, by what happened before: half as long where something on the way cut a request
/// off, longer again, step by step, after many that were not.
/// </summary>
/// <remarks>Thread-safe.</remarks>
internal sealed class LongPollWait
{
    /// <summary>How many waits must have been answered before a longer one is tried, at first; twice as many after each cut.</summary>
    private const int FewestAnswered = 8;
    private const int MostAnswered = 1024;
    private const double Growth = 1.5;

    /// <summary>A proxy that cuts a wait off so early would cut off anything.</summary>
    private static readonly TimeSpan Shortest = TimeSpan.FromSeconds(0.5);

    /// <summary>A failure that comes earlier, and before a quarter of the wait, has nothing to do with waiting.</summary>
    private static readonly TimeSpan EarliestCut = TimeSpan.FromSeconds(1);

    private readonly Lock sync = new();
    private readonly TimeSpan longest;
    private TimeSpan current;
    private int answered;
    private int required = FewestAnswered;

    /// <summary>Begins with the longest wait.</summary>
    /// <param name="longest">The longest wait.</param>
    public LongPollWait(TimeSpan longest) => this.longest = current = longest;

    /// <summary>The wait to ask for.</summary>
    public TimeSpan Current
    {
        get
        {
            lock (sync) return current;
        }
    }

    /// <summary>A request was answered.</summary>
    /// <param name="asked">The wait that it asked for.</param>
    /// <param name="elapsed">How long the answer took. Only those that took as long as asked for show that nothing cuts them off.</param>
    public void Answered(TimeSpan asked, TimeSpan elapsed)
    {
        lock (sync)
        {
            if (current >= longest || asked < current || elapsed < asked || ++answered < required) return;
            answered = 0;
            current = TimeSpan.FromTicks((long)Math.Min(longest.Ticks, current.Ticks * Growth));
            if (current >= longest) required = FewestAnswered;
        }
    }

    /// <summary>A request got no answer.</summary>
    /// <param name="asked">The wait that it asked for.</param>
    /// <param name="elapsed">After how long that was known.</param>
    /// <returns>Whether the wait may be why: then one without a wait may be answered.</returns>
    public bool IsCut(TimeSpan asked, TimeSpan elapsed)
    {
        if (asked == TimeSpan.Zero || (elapsed < EarliestCut && elapsed < asked / 4)) return false;
        lock (sync)
        {
            var lasted = elapsed < asked ? elapsed : asked;
            var half = lasted / 2 > Shortest ? lasted / 2 : Shortest;
            if (half < current) current = half;
            answered = 0;
            required = Math.Min(MostAnswered, 2 * required);
        }

        return true;
    }
}
