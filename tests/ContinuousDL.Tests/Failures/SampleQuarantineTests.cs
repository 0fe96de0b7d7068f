using ContinuousDL.Failures;
using ContinuousDL.Sampling;
using ContinuousDL.Tests.Sampling;

namespace ContinuousDL.Tests.Failures;

/// <summary>What is in quarantine is in no batch, and a saved quarantine is the same or refused.</summary>
public class SampleQuarantineTests
{
    [Test]
    public void Samples_are_listed_in_order_each_once_and_forgotten_with_the_history()
    {
        var quarantine = Make(5, 2, 9, 5);

        quarantine.Samples.Select(s => s.Index).Should().Equal(2, 5, 9);
        Enumerable.Range(0, 11).Where(i => quarantine.Contains(i)).Should().Equal(2, 5, 9);
        new[] { 0, 2, 3, 6, 10 }.Select(i => quarantine.CountFrom(i)).Should().Equal(3, 3, 2, 1, 0);
        quarantine.Forget(3);
        quarantine.Samples.Select(s => s.Index).Should().Equal(5, 9);
        quarantine.Forget(100);
        quarantine.IsEmpty.Should().BeTrue();
    }

    [Test]
    public void Saved_quarantine_is_loaded_as_it_was()
    {
        var quarantine = Make(1, 4, 7);
        var loaded = Make(3);

        Load(loaded, Bytes(quarantine), end: 8);

        loaded.Samples.Should().Equal(quarantine.Samples);
    }

    [Test]
    public void Damaged_quarantine_is_refused_and_changes_nothing()
    {
        var bytes = Bytes(Make(1, 4));
        var quarantine = Make(3);
        foreach (var (damage, end) in new (Action<byte[]> Damage, long End)[]
        {
            (b => b[0] = 0xff, 8), (b => b.AsSpan(0, 4).Fill(0xff), 8), (b => b[4] = 4, 8), (b => b[11] = 0x80, 8), (b => b[12] = 99, 8), (_ => { }, 4),
        })
        {
            var copy = bytes.ToArray();
            damage(copy);
            quarantine.Invoking(q => Load(q, copy, end)).Should().Throw<Exception>()
                .Where(e => e is InvalidDataException || e is EndOfStreamException);
        }

        for (var length = 0; length < bytes.Length; length++) quarantine.Invoking(q => Load(q, bytes[..length], 8)).Should().Throw<EndOfStreamException>();
        quarantine.Samples.Select(s => s.Index).Should().Equal(3);
    }

    [Test]
    public void Batches_of_every_sampler_are_full_and_without_quarantined_samples(
        [ValueSource(typeof(Samplers), nameof(Samplers.Drawing))] string sampler, [Values] bool alwaysIncludeNew, [Values] bool withReplacement)
    {
        var quarantine = Make([.. Enumerable.Range(0, 1000).Select(i => 3L * i)]);
        var filter = new QuarantineFilter(Samplers.Make(sampler, alwaysIncludeNew, withReplacement), quarantine);
        var batch = new long[12];
        for (var draw = 0; draw < 200; draw++)
        {
            var range = new SampleRange(0, 1000 + (8 * draw), 1008 + (8 * draw));
            var sampled = filter.Sample(range, batch);

            var filled = batch[..sampled.Count];
            if (sampler == "short exponential") sampled.Count.Should().BePositive("so steep a weight draws the same few again");
            else sampled.Count.Should().Be(12);
            filled.Should().NotContain(index => quarantine.Contains(index)).And.OnlyContain(index => index >= 0 && index < range.End);
            sampled.NewCount.Should().Be(filled.Count(index => index >= range.FirstNew));
            if (alwaysIncludeNew) filled.Should().Contain(Enumerable.Range(0, 8).Select(i => range.FirstNew + i).Where(index => index % 3 != 0));
            if (!withReplacement) filled.Should().OnlyHaveUniqueItems();
        }
    }

    [Test]
    public void New_samples_that_had_no_place_take_those_of_quarantined_ones()
    {
        var filter = new QuarantineFilter(new OnlineSampler(), Make(1, 2, 5));
        var batch = new long[4];

        var sampled = filter.Sample(new SampleRange(0, 0, 8), batch);

        batch.Should().Equal(0, 3, 4, 6);
        sampled.Should().Be(new BatchSelection(4, 4, 7));
    }

    [Test]
    public void Range_that_is_all_in_quarantine_gives_an_empty_batch([ValueSource(typeof(Samplers), nameof(Samplers.Drawing))] string sampler, [Values] bool withReplacement)
    {
        var filter = new QuarantineFilter(Samplers.Make(sampler, true, withReplacement), Make(0, 1, 2, 3));

        filter.Sample(new SampleRange(0, 2, 4), new long[8]).Should().Be(new BatchSelection(0, 0, 4));
    }

    [Test]
    public void Sampling_with_quarantined_samples_allocates_nothing()
    {
        var filter = new QuarantineFilter(new UniformSampler(), Make([.. Enumerable.Range(0, 500).Select(i => (long)(i * 2))]));
        var batch = new long[64];
        var range = new SampleRange(0, 1000, 1008);
        for (var draw = 0; draw < 20; draw++) filter.Sample(range, batch);

        AllocatedBytes.OfRun(() =>
        {
            for (var draw = 0; draw < 100; draw++) filter.Sample(range, batch);
        }).Should().Be(0);
    }

    private static SampleQuarantine Make(params long[] indices)
    {
        var quarantine = new SampleQuarantine();
        foreach (var index in indices) quarantine.Add(new QuarantinedSample(index, SkipReason.NonFiniteGradient, $"Sample {index}.", index + 100));
        return quarantine;
    }

    private static byte[] Bytes(SampleQuarantine quarantine)
    {
        using var stream = new MemoryStream();
        quarantine.Save(new BinaryWriter(stream));
        return stream.ToArray();
    }

    private static void Load(SampleQuarantine quarantine, byte[] bytes, long end) => quarantine.Load(new BinaryReader(new MemoryStream(bytes)), end);
}
