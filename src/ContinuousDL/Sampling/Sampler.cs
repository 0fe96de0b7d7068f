using ContinuousDL.Randomness;
using ContinuousDL.Replication;
using ContinuousDL.State;

namespace ContinuousDL.Sampling;

/// <summary>
/// What the samplers of this library share: how new samples get into a batch, and how the state is kept.
/// </summary>
/// <remarks>
/// <para>With <see cref="SamplerOptions.AlwaysIncludeNew"/> a batch begins with the new samples, in the order of their
/// arrival, as many as fit. Those that do not fit stay new (<see cref="BatchSelection.FirstNew"/>) and come first in the next
/// batch. The rest is drawn from the historical samples. Without it, the whole batch is drawn from all samples, and none
/// is new afterwards.</para>
/// <para>Where there are fewer samples to draw than places, without replacement, all of them are taken, and the batch is
/// partial; without any sample it is empty (<see cref="BatchSelection.Count"/> is 0). With replacement the places are filled
/// whenever there is a sample to draw.</para>
/// <para>A call allocates no managed memory once its scratch space has the size of the batch, but for the counts of an
/// <see cref="InverseFrequencySampler"/>, which grow with the history. To write a sampler of one's own, implement
/// <see cref="ISampler"/>.</para>
/// <para>A state fits a sampler of the same type and options but for the seed, whose place it takes.</para>
/// </remarks>
public abstract class Sampler : ISampler
{
    private readonly bool shuffle;

    /// <param name="options">The options, not validated yet.</param>
    private protected Sampler(SamplerOptions options)
    {
        OptionsValidator.Validate(options, nameof(options));
        AlwaysIncludeNew = options.AlwaysIncludeNew;
        WithReplacement = options.WithReplacement;
        shuffle = options.Shuffle;
        Random = new RandomSource(options.Seed);
    }

    private protected bool AlwaysIncludeNew { get; }

    private protected bool WithReplacement { get; }

    private protected RandomSource Random { get; private set; }

    /// <summary>The options of the derived sampler that decide its batches, in words: a state fits only a sampler with the same ones.</summary>
    private protected virtual string? KindOfOptions => null;

    /// <inheritdoc />
    public BatchSelection Sample(SampleRange range, Span<long> batch)
    {
        if (batch.IsEmpty) throw new ArgumentException("The batch has no places; it needs at least one.", nameof(batch));
        var included = AlwaysIncludeNew ? (int)Math.Min(range.NewCount, batch.Length) : 0;
        var count = included + Draw(range, included, batch[included..]);
        batch = batch[..count];
        for (var i = 0; i < included; i++) batch[i] = range.FirstNew + i;

        var newCount = included;
        foreach (var index in batch[included..])
        {
            if (index >= range.FirstNew) newCount++;
        }

        if (shuffle) Random.Shuffle(batch);
        return new BatchSelection(count, newCount, AlwaysIncludeNew ? range.FirstNew + included : range.End);
    }

    string IStateful.StateKind =>
        $"{GetType().Name}, new samples {(AlwaysIncludeNew ? "always included" : "drawn like others")}, {(WithReplacement ? "with" : "without")} replacement"
        + (shuffle ? ", shuffled" : "") + (KindOfOptions is { } own ? $", {own}" : "");

    void IStateful.WriteState(BinaryWriter writer)
    {
        Random.Save(writer);
        WriteState(writer);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var random = RandomSource.Read(reader);
        var take = ReadState(reader);
        return () =>
        {
            Random = random;
            take();
        };
    }

    /// <summary>Draws the samples of a batch that are not there because they are new.</summary>
    /// <param name="range">The samples there are.</param>
    /// <param name="included">How many new samples, from <see cref="SampleRange.FirstNew"/> on, are in the batch already.</param>
    /// <param name="places">Receives the indices. May be empty.</param>
    /// <returns>How many places were filled, from the start.</returns>
    private protected abstract int Draw(SampleRange range, int included, Span<long> places);

    /// <summary>Writes the state that is not the random generator's.</summary>
    private protected virtual void WriteState(BinaryWriter writer)
    {
    }

    /// <summary>Reads what <see cref="WriteState"/> wrote, as <see cref="IStateful.ReadState"/> does.</summary>
    private protected virtual Action ReadState(BinaryReader reader) => static () => { };

    /// <summary>One past the newest sample that can be drawn.</summary>
    private protected long DrawableEnd(SampleRange range) => AlwaysIncludeNew ? range.FirstNew : range.End;
}
