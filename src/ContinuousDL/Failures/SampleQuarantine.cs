using System.Runtime.InteropServices;

namespace ContinuousDL.Failures;

/// <summary>The samples that are never drawn again, in the order of their indices.</summary>
internal sealed class SampleQuarantine
{
    private readonly List<QuarantinedSample> samples = [];

    public SampleQuarantine() => Samples = samples.AsReadOnly();

    /// <summary>The samples, as they are at any time.</summary>
    public IReadOnlyList<QuarantinedSample> Samples { get; }

    public bool IsEmpty => samples.Count == 0;

    public bool Contains(long index) => CountBelow(index) is var place && place < samples.Count && samples[place].Index == index;

    /// <summary>How many of the samples from an index on are in quarantine.</summary>
    public int CountFrom(long index) => samples.Count - CountBelow(index);

    /// <summary>Takes a sample in; one that is there already stays as it is.</summary>
    public void Add(QuarantinedSample sample)
    {
        var place = CountBelow(sample.Index);
        if (place == samples.Count || samples[place].Index != sample.Index) samples.Insert(place, sample);
    }

    /// <summary>Lets the samples go that the history has let go.</summary>
    /// <param name="first">The oldest sample that the history has.</param>
    public void Forget(long first)
    {
        if (samples.Count > 0 && samples[0].Index < first) samples.RemoveRange(0, CountBelow(first));
    }

    /// <summary>Moves the indices that are not in quarantine to the front, in their order.</summary>
    /// <returns>How many there are.</returns>
    public int Exclude(Span<long> indices)
    {
        var kept = 0;
        foreach (var index in indices)
        {
            if (!Contains(index)) indices[kept++] = index;
        }

        return kept;
    }

    public void Save(BinaryWriter writer)
    {
        writer.Write(samples.Count);
        foreach (var sample in samples)
        {
            writer.Write(sample.Index);
            writer.Write((int)sample.Reason);
            writer.Write(sample.Message);
            writer.Write(sample.Sequence);
        }
    }

    /// <summary>Takes up what <see cref="Save"/> wrote.</summary>
    /// <param name="reader">Where to read it from.</param>
    /// <param name="end">One past the last index that there can be.</param>
    /// <exception cref="InvalidDataException">It is no quarantine. This one is as it was.</exception>
    /// <exception cref="EndOfStreamException">It is cut short. This one is as it was.</exception>
    public void Load(BinaryReader reader, long end)
    {
        var loaded = new List<QuarantinedSample>();
        var count = reader.ReadInt32();
        for (var (i, previous) = (0, -1L); i < count; i++)
        {
            var (index, reason, message, sequence) = (reader.ReadInt64(), (SkipReason)reader.ReadInt32(), reader.ReadString(), reader.ReadInt64());
            if (index <= previous || index >= end) throw new InvalidDataException($"sample {index} follows sample {previous}, of {end}");
            if (!Enum.IsDefined(reason)) throw new InvalidDataException($"sample {index} has the unknown reason {(int)reason}");
            loaded.Add(new QuarantinedSample(index, reason, message, sequence));
            previous = index;
        }

        if (count < 0) throw new InvalidDataException($"it has {count} samples");
        samples.Clear();
        samples.AddRange(loaded);
    }

    private int CountBelow(long index)
    {
        var span = CollectionsMarshal.AsSpan(samples);
        var (low, high) = (0, span.Length);
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (span[middle].Index < index) low = middle + 1;
            else high = middle;
        }

        return low;
    }
}
