namespace ContinuousDL.Sampling;

/// <summary>
/// Draws a sample with the weight 1/c where c is how many times it was selected so far, so that samples that were seldom
/// trained on come up more often.
/// </summary>
/// <remarks>
/// <para>A sample that the sampler meets for the first time counts as selected
/// <see cref="InverseFrequencySamplerOptions.InitialHistoricalCount"/> or
/// <see cref="InverseFrequencySamplerOptions.InitialNewCount"/> times. Every place it takes in a batch counts once, a new
/// sample's included. The weights of a batch are those before it: counts change when it is complete. Without replacement
/// samples are drawn one after the other, each with a probability proportional to its weight among those not drawn yet.
/// All of it is done exactly, in integers; batches are the same on every platform.</para>
/// <para>A batch costs constant time for each of its samples and for each that was added to or dropped from the history
/// since the last one; the first batch takes in the whole history. The counts take 12 bytes of memory for a sample. At most
/// 2^31 − 1 samples; a count ends at 2^31 − 1. See <see cref="Sampler"/> for what all samplers share.</para>
/// </remarks>
public sealed class InverseFrequencySampler : Sampler
{
    private readonly int initialHistoricalCount;
    private readonly int initialNewCount;
    private SelectionCounts counts = new(0);

    /// <summary>Makes a sampler.</summary>
    /// <param name="options">The options; null for the defaults. Read once: later changes have no effect.</param>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    public InverseFrequencySampler(InverseFrequencySamplerOptions? options = null)
        : base(options ??= new())
    {
        initialHistoricalCount = options.InitialHistoricalCount;
        initialNewCount = options.InitialNewCount;
    }

    private protected override string? KindOfOptions => FormattableString.Invariant($"initial counts {initialHistoricalCount} and {initialNewCount}");

    private protected override int Draw(SampleRange range, int included, Span<long> places)
    {
        CheckRange(range);
        FollowRange(range);

        // Samples that were in a batch already are new again when the batch could not be trained on.
        var drawableEnd = DrawableEnd(range);
        for (var index = drawableEnd; index < counts.End; index++) counts.SetAside(index);
        var drawn = DrawFrom(drawableEnd - range.First, places);

        var includedEnd = range.FirstNew + included;
        while (counts.End < includedEnd) counts.AppendAside(initialNewCount);
        for (var index = range.FirstNew; index < includedEnd; index++) counts.CountSelection(index);
        for (var index = drawableEnd; index < counts.End; index++) counts.PutBack(index);
        return drawn;
    }

    private protected override void WriteState(BinaryWriter writer) => counts.Save(writer);

    private protected override Action ReadState(BinaryReader reader)
    {
        var read = SelectionCounts.Load(reader);
        return () => counts = read;
    }

    private int DrawFrom(long drawable, Span<long> places)
    {
        if (drawable == 0) return 0;
        if (!WithReplacement) places = places[..(int)Math.Min(drawable, places.Length)];
        counts.Draw(Random, places, setAside: !WithReplacement);
        foreach (var index in places)
        {
            if (WithReplacement) counts.SetAside(index);
            counts.CountSelection(index);
            counts.PutBack(index);
        }

        return places.Length;
    }

    private void CheckRange(SampleRange range)
    {
        if (range.First < counts.First || range.End < counts.End)
        {
            throw new ArgumentException(
                $"The range [{range.First}, {range.End}) starts or ends before [{counts.First}, {counts.End}), which the sampler knows; "
                + "a sampler serves one history.",
                nameof(range));
        }

        if (range.Count > SelectionCounts.MaximumSamples)
        {
            throw new ArgumentException(
                $"The range has {range.Count} samples; this sampler takes at most {SelectionCounts.MaximumSamples}.", nameof(range));
        }
    }

    /// <summary>Drops the samples that are gone, and adds those that can be drawn from now on.</summary>
    private void FollowRange(SampleRange range)
    {
        while (counts.First < Math.Min(range.First, counts.End)) counts.DropFirst();
        if (counts.First < range.First) counts = new SelectionCounts(range.First);
        while (counts.End < range.FirstNew) counts.Append(initialHistoricalCount);
        while (counts.End < DrawableEnd(range)) counts.Append(initialNewCount);
    }
}
