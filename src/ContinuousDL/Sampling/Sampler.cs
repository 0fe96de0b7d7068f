using System.Buffers.Binary;
using ContinuousDL.Randomness;
using ContinuousDL.Replication;

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
/// </remarks>
public abstract class Sampler : ISampler
{
    private readonly uint stateTag;
    private readonly bool shuffle;

    /// <param name="options">The options, not validated yet.</param>
    /// <param name="stateTag">Four ASCII characters that begin the state of this kind of sampler.</param>
    private protected Sampler(SamplerOptions options, ReadOnlySpan<byte> stateTag)
    {
        OptionsValidator.Validate(options, nameof(options));
        this.stateTag = BinaryPrimitives.ReadUInt32LittleEndian(stateTag);
        AlwaysIncludeNew = options.AlwaysIncludeNew;
        WithReplacement = options.WithReplacement;
        shuffle = options.Shuffle;
        Random = new RandomSource(options.Seed);
    }

    private protected bool AlwaysIncludeNew { get; }

    private protected bool WithReplacement { get; }

    private protected RandomSource Random { get; private set; }

    /// <summary>The options of the derived sampler that decide its batches, as bits: a state fits only a sampler with the same ones.</summary>
    private protected virtual (long First, long Second) OptionBits => default;

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

    /// <inheritdoc />
    public void SaveState(BinaryWriter writer)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.Write(stateTag);
        writer.Write(OptionFlags);
        writer.Write(OptionBits.First);
        writer.Write(OptionBits.Second);
        Random.Save(writer);
        WriteState(writer);
    }

    /// <inheritdoc />
    /// <remarks>The seed may differ: the state takes its place. When this fails, the sampler is as it was.</remarks>
    public void LoadState(BinaryReader reader)
    {
        ArgumentNullException.ThrowIfNull(reader);
        try
        {
            if (reader.ReadUInt32() != stateTag) throw new InvalidDataException($"This is not the state of a {GetType().Name}.");
            if (reader.ReadByte() != OptionFlags || (reader.ReadInt64(), reader.ReadInt64()) != OptionBits)
                throw new InvalidDataException($"This is the state of a {GetType().Name} with other options.");
            var random = new RandomSource(0);
            random.Load(reader);
            ReadState(reader);
            Random = random;
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException($"The state of a {GetType().Name} is cut short.", e);
        }
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

    /// <summary>Takes up what <see cref="WriteState"/> wrote, or throws and changes nothing.</summary>
    /// <exception cref="InvalidDataException">The data is damaged.</exception>
    /// <exception cref="EndOfStreamException">The data is cut short.</exception>
    private protected virtual void ReadState(BinaryReader reader)
    {
    }

    /// <summary>One past the newest sample that can be drawn.</summary>
    private protected long DrawableEnd(SampleRange range) => AlwaysIncludeNew ? range.FirstNew : range.End;

    private byte OptionFlags => (byte)((AlwaysIncludeNew ? 1 : 0) | (WithReplacement ? 2 : 0) | (shuffle ? 4 : 0));
}
