using ContinuousDL.Sampling;
using CsCheck;

namespace ContinuousDL.Tests.Sampling;

/// <summary>What all samplers share: how new and historical samples make up a batch, and what happens at the edges.</summary>
public class SamplerRulesTests
{
    [TestCaseSource(typeof(Samplers), nameof(Samplers.Drawing))]
    public void New_samples_come_first_in_order_and_historical_ones_fill_the_rest(string kind)
    {
        var batch = new long[6];

        var result = Samplers.Make(kind).Sample(new SampleRange(0, 20, 22), batch);

        result.Should().Be(new BatchSelection(Count: 6, NewCount: 2, FirstNew: 22));
        result.HistoricalCount.Should().Be(4);
        batch[..2].Should().Equal(20, 21);
        batch[2..].Should().OnlyHaveUniqueItems().And.OnlyContain(index => index >= 0 && index < 20);
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.All))]
    public void New_samples_that_do_not_fit_stay_new_and_come_first_in_the_next_batch(string kind)
    {
        var sampler = Samplers.Make(kind);
        var batch = new long[3];

        var first = sampler.Sample(new SampleRange(0, 20, 25), batch);
        batch.Should().Equal(20, 21, 22);
        first.Should().Be(new BatchSelection(Count: 3, NewCount: 3, FirstNew: 23));

        var second = sampler.Sample(new SampleRange(0, first.FirstNew, 26), batch);
        batch.Should().Equal(23, 24, 25);
        second.Should().Be(new BatchSelection(Count: 3, NewCount: 3, FirstNew: 26));
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.Drawing))]
    public void History_smaller_than_the_rest_of_the_batch_gives_a_partial_batch_with_all_of_it(string kind)
    {
        var batch = new long[10];

        var result = Samplers.Make(kind).Sample(new SampleRange(3, 7, 8), batch);

        result.Should().Be(new BatchSelection(Count: 5, NewCount: 1, FirstNew: 8));
        batch[0].Should().Be(7);
        batch[1..5].Should().BeEquivalentTo(new long[] { 3, 4, 5, 6 });
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.Drawing))]
    public void WithReplacement_fills_the_batch_from_a_history_that_is_smaller(string kind)
    {
        var batch = new long[10];

        var result = Samplers.Make(kind, withReplacement: true).Sample(new SampleRange(3, 7, 8), batch);

        result.Should().Be(new BatchSelection(Count: 10, NewCount: 1, FirstNew: 8));
        batch[0].Should().Be(7);
        batch[1..].Should().OnlyContain(index => index >= 3 && index < 7);
    }

    [Test]
    public void Empty_history_gives_the_new_samples_only(
        [ValueSource(typeof(Samplers), nameof(Samplers.All))] string kind, [Values] bool withReplacement)
    {
        var batch = new long[10];

        var result = Samplers.Make(kind, withReplacement: withReplacement).Sample(new SampleRange(5, 5, 8), batch);

        result.Should().Be(new BatchSelection(Count: 3, NewCount: 3, FirstNew: 8));
        batch[..3].Should().Equal(5, 6, 7);
    }

    [Test]
    public void No_samples_at_all_give_an_empty_batch(
        [ValueSource(typeof(Samplers), nameof(Samplers.Drawing))] string kind, [Values] bool alwaysIncludeNew, [Values] bool withReplacement)
    {
        var result = Samplers.Make(kind, alwaysIncludeNew, withReplacement).Sample(new SampleRange(4, 4, 4), new long[10]);

        result.Should().Be(new BatchSelection(Count: 0, NewCount: 0, FirstNew: 4));
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.Drawing))]
    public void No_new_samples_give_a_batch_of_historical_ones(string kind)
    {
        var result = Samplers.Make(kind).Sample(new SampleRange(0, 20, 20), new long[10]);

        result.Should().Be(new BatchSelection(Count: 10, NewCount: 0, FirstNew: 20));
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.Drawing))]
    public void Without_AlwaysIncludeNew_the_batch_is_drawn_from_everything_and_nothing_is_new_afterwards(string kind)
    {
        var batch = new long[10];

        var result = Samplers.Make(kind, alwaysIncludeNew: false).Sample(new SampleRange(0, 10, 20), batch);

        result.Should().Be(new BatchSelection(Count: 10, NewCount: batch.Count(index => index >= 10), FirstNew: 20));
        result.NewCount.Should().BePositive();
        batch.Should().OnlyHaveUniqueItems().And.OnlyContain(index => index >= 0 && index < 20);
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.Drawing))]
    public void New_samples_of_a_batch_that_was_not_trained_on_are_new_again(string kind)
    {
        var sampler = Samplers.Make(kind);
        var batch = new long[10];
        sampler.Sample(new SampleRange(0, 20, 25), batch);

        var result = sampler.Sample(new SampleRange(0, 20, 26), batch);

        result.Should().Be(new BatchSelection(Count: 10, NewCount: 6, FirstNew: 26));
        batch[..6].Should().Equal(20, 21, 22, 23, 24, 25);
        batch[6..].Should().OnlyHaveUniqueItems().And.OnlyContain(index => index >= 0 && index < 20);
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.All))]
    public void Batch_without_places_fails(string kind)
    {
        var sample = () => Samplers.Make(kind).Sample(new SampleRange(0, 10, 20), []);

        sample.Should().Throw<ArgumentException>().WithParameterName("batch");
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.All))]
    public void Shuffle_changes_the_order_and_nothing_else(string kind)
    {
        var plain = Samplers.Make(kind).Sample(new SampleRange(0, 100, 120), 40);
        var shuffled = Samplers.Make(kind, shuffle: true).Sample(new SampleRange(0, 100, 120), 40);

        shuffled.Should().BeEquivalentTo(plain).And.NotEqual(plain);
    }

    [Test]
    public void Shuffle_puts_every_new_sample_into_every_place_equally_often()
    {
        var sampler = Samplers.Make("online", shuffle: true);
        var batch = new long[5];
        var counts = new long[25];

        for (var i = 0; i < 20_000; i++)
        {
            sampler.Sample(new SampleRange(0, 0, 5), batch);
            for (var place = 0; place < 5; place++) counts[(place * 5) + batch[place]]++;
        }

        // Of the 25 counts only 16 are free, since rows and columns add up; the test for 24 is the more lenient one.
        counts.ShouldFit(ChiSquare.Uniform(25));
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.Drawing))]
    public void Same_seed_gives_the_same_batches_and_another_seed_does_not(string kind)
    {
        var batches = Enumerable.Range(0, 3).Select(i => Samplers.Make(kind, withReplacement: true, seed: i < 2 ? 5ul : 6ul)).Select(Run).ToArray();

        batches[1].Should().Equal(batches[0]);
        batches[2].Should().NotEqual(batches[0]);

        static long[] Run(ISampler sampler) =>
            [.. Enumerable.Range(0, 50).SelectMany(step => sampler.Sample(new SampleRange(step, 100 + (2 * step), 102 + (2 * step)), 16))];
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.All))]
    public void Sample_allocates_nothing_in_the_steady_state(string kind)
    {
        foreach (var withReplacement in new[] { false, true })
        {
            var sampler = Samplers.Make(kind, withReplacement: withReplacement, shuffle: true);
            var batch = new long[128];
            var range = new SampleRange(0, 1_000, 1_005);
            Sample();

            AllocatedBytes.OfRun(Sample).Should().Be(0);

            void Sample()
            {
                for (var i = 0; i < 100; i++) sampler.Sample(range, batch);
            }
        }
    }

    /// <summary>Streams of arrivals and departures, with any options, against the rules written out.</summary>
    [TestCaseSource(typeof(Samplers), nameof(Samplers.Drawing))]
    public void Every_batch_of_a_stream_follows_the_rules(string kind)
    {
        var steps = Gen.Select(Gen.Int[0, 40], Gen.Int[0, 50], Gen.OneOf(Gen.Int[1, 8], Gen.Int[1, 64]), Gen.Bool);
        var streams = Gen.Select(Gen.Bool, Gen.Bool, Gen.Bool, Gen.ULong, steps.Array[1, 30]);

        streams.Sample(
            (alwaysIncludeNew, withReplacement, shuffle, seed, stream) =>
            {
                var sampler = Samplers.Make(kind, alwaysIncludeNew, withReplacement, shuffle, seed);
                var range = new SampleRange(0, 0, 0);
                foreach (var (arrivals, departures, batchSize, isTrainedOn) in stream)
                {
                    var first = Math.Min(range.First + departures, range.End);
                    range = new SampleRange(first, Math.Max(first, range.FirstNew), range.End + arrivals);
                    var batch = new long[batchSize];
                    var result = sampler.Sample(range, batch);
                    CheckRules(range, batch, result, kind, alwaysIncludeNew, withReplacement, shuffle);
                    if (isTrainedOn) range = new SampleRange(first, result.FirstNew, range.End);
                }
            },
            iter: 200,
            seed: "0000dGqgr0W5",
            threads: 1);
    }

    private static void CheckRules(
        SampleRange range, long[] batch, BatchSelection result, string kind, bool alwaysIncludeNew, bool withReplacement, bool shuffle)
    {
        var included = alwaysIncludeNew ? (int)Math.Min(range.NewCount, batch.Length) : 0;
        var oldest = kind == "window" ? Math.Max(range.First, range.End - Samplers.WindowSize) : range.First;
        var end = alwaysIncludeNew ? range.FirstNew : range.End;
        var drawable = Math.Max(0, end - oldest);
        var places = batch.Length - included;
        var drawn = drawable == 0 ? 0 : withReplacement ? places : (int)Math.Min(drawable, places);

        result.Count.Should().Be(included + drawn);
        var filled = batch[..result.Count];
        result.NewCount.Should().Be(filled.Count(index => index >= range.FirstNew));
        result.FirstNew.Should().Be(alwaysIncludeNew ? range.FirstNew + included : range.End);
        var newSamples = Enumerable.Range(0, included).Select(i => range.FirstNew + i);
        if (!shuffle) filled.Take(included).SequenceEqual(newSamples).Should().BeTrue();
        var drawnSamples = filled.Where(index => !alwaysIncludeNew || index < range.FirstNew).ToArray();
        filled.Except(drawnSamples).Order().SequenceEqual(newSamples).Should().BeTrue();
        drawnSamples.Length.Should().Be(drawn);
        drawnSamples.All(index => index >= oldest && index < end).Should().BeTrue();
        if (!withReplacement) drawnSamples.Distinct().Count().Should().Be(drawn);
    }
}
