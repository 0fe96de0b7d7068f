namespace ContinuousDL.Sampling;

/// <summary>
/// Draws a sample the more often the newer it is: with a weight that grows linearly with recency, or that halves with every
/// half-life of age.
/// </summary>
/// <remarks>
/// <para>The weight of the i-th oldest of the samples that can be drawn is i (linear), or 2^(-age/half-life) with the age
/// counted in samples (exponential). Without replacement samples are drawn one after the other, each with a probability
/// proportional to its weight among those not drawn yet.</para>
/// <para>Linear weights are drawn exactly, in integers. Exponential weights, and draws of most of a short history, go
/// through floating-point numbers: each probability is right to within about 2^-53, and batches are reproducible where the
/// logarithm is, which is the case on one platform.</para>
/// <para>The cost depends on the size of the batch alone. See <see cref="Sampler"/> for what all samplers share.</para>
/// </remarks>
public sealed class TimeBiasedSampler : Sampler
{
    // A shorter half-life, against the batch, makes nearly every draw hit one of the samples drawn already. At this one it
    // takes about 9 draws to fill a place, and the other method costs the same.
    private const double HalfLivesPerBatchToReject = 6;

    private readonly IndexSet drawn = new();
    private readonly PriorityQueue<long, double> earliest = new();
    private readonly RecencyWeighting weighting;
    private readonly double halfLife;

    /// <summary>The rate of decay: the weight is e^(-rate · age).</summary>
    private readonly double rate;

    /// <summary>Makes a sampler.</summary>
    /// <param name="options">The options; null for the defaults. Read once: later changes have no effect.</param>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    public TimeBiasedSampler(TimeBiasedSamplerOptions? options = null)
        : base(options ??= new())
    {
        weighting = options.Weighting;
        halfLife = options.HalfLife;
        rate = Math.Log(2) / halfLife;
    }

    private protected override string? KindOfOptions => weighting == RecencyWeighting.Exponential
        ? FormattableString.Invariant($"exponential weights of half-life {halfLife}")
        : "linear weights";

    private protected override int Draw(SampleRange range, int included, Span<long> places)
    {
        var newest = DrawableEnd(range) - 1;
        var count = newest + 1 - range.First;
        if (count == 0 || places.IsEmpty) return 0;
        if (WithReplacement)
        {
            foreach (ref var place in places) place = newest - DrawAge(count);
            return places.Length;
        }

        if (count <= places.Length)
        {
            for (var i = 0; i < count; i++) places[i] = range.First + i;
            return (int)count;
        }

        if (IsRejectionCheap(count, places.Length)) DrawDistinct(newest, count, places);
        else DrawEarliest(newest, count, places);
        return places.Length;
    }

    /// <summary>
    /// Whether a draw will seldom hit a sample that was drawn before. With linear weights the newest half of the samples, at
    /// worst, leaves a quarter of the weight; with exponential ones it depends on the half-life, too.
    /// </summary>
    private bool IsRejectionCheap(long count, int places) =>
        places <= count / 2 && (weighting == RecencyWeighting.Linear || places <= HalfLivesPerBatchToReject * halfLife);

    /// <summary>Draws by weight, and again when the sample is in the batch already: as good as drawing from the others only.</summary>
    private void DrawDistinct(long newest, long count, Span<long> places)
    {
        drawn.Reset(places.Length);
        foreach (ref var place in places)
        {
            long age;
            do age = DrawAge(count);
            while (!drawn.Add(age));
            place = newest - age;
        }
    }

    /// <summary>Draws the age of a sample, 0 for the newest, by weight.</summary>
    private long DrawAge(long count) => weighting switch
    {
        RecencyWeighting.Linear => DrawLinearAge(count),
        _ when count > halfLife => DrawLongExponentialAge(count),
        _ => DrawShortExponentialAge(count),
    };

    /// <summary>
    /// Of two different numbers below count + 1 the larger one is m with probability m / (1 + 2 + ... + count): m counts from
    /// the oldest sample, 1, to the newest, <paramref name="count"/>.
    /// </summary>
    private long DrawLinearAge(long count)
    {
        var a = Random.NextBelow(count + 1);
        var b = Random.NextBelow(count);
        if (b >= a) b++;
        return count - Math.Max(a, b);
    }

    /// <summary>
    /// The whole part of an exponential variate is geometric. One beyond the oldest sample, less likely than not, is drawn again.
    /// </summary>
    private long DrawLongExponentialAge(long count)
    {
        double age;
        do age = -Math.Log(Random.NextDoubleAboveZero()) / rate;
        while (age >= count);
        return (long)age;
    }

    /// <summary>All weights are between 1/2 and 1, so that a uniform draw is accepted more often than not.</summary>
    private long DrawShortExponentialAge(long count)
    {
        long age;
        do age = Random.NextBelow(count);
        while (Random.NextDouble() >= Math.Exp(-rate * age));
        return age;
    }

    /// <summary>
    /// Gives every sample an exponential time with its weight as the rate, and takes those with the earliest times (Efraimidis
    /// and Spirakis 2006, in logarithms): the same distribution as drawing one after the other. It goes from the newest sample
    /// back until not even the shortest time could be early enough.
    /// </summary>
    private void DrawEarliest(long newest, long count, Span<long> places)
    {
        // A variate of 0 stands for those below the resolution of the generator.
        const double shortest = 1.0 / (1ul << 54);
        var earliestPossible = Math.Log(shortest);
        earliest.Clear();
        earliest.EnsureCapacity(places.Length);
        for (var age = 0L; age < count; age++)
        {
            var logWeight = weighting == RecencyWeighting.Linear ? Math.Log(count - age) : -rate * age;
            var isFull = earliest.Count == places.Length;
            earliest.TryPeek(out _, out var latest);
            if (isFull && earliestPossible - logWeight >= -latest) break;

            var time = Math.Log(Math.Max(-Math.Log(Random.NextDoubleAboveZero()), shortest)) - logWeight;
            if (!isFull) earliest.Enqueue(age, -time);
            else if (time < -latest) earliest.DequeueEnqueue(age, -time);
        }

        foreach (ref var place in places) place = newest - earliest.Dequeue();
    }
}
