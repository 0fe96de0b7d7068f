using ContinuousDL.Sampling;
using ContinuousDL.State;
using CsCheck;

namespace ContinuousDL.Tests.Sampling;

/// <summary>Saving and restoring samplers: what follows is what would have followed, and damaged data changes nothing.</summary>
public class SamplerStateTests
{
    private static readonly string[] OnePerClass = ["uniform", "window", "linear", "inverse-frequency", "online"];

    [Test]
    public void Restored_sampler_gives_the_batches_that_would_have_followed(
        [ValueSource(typeof(Samplers), nameof(Samplers.All))] string kind, [Values] bool withReplacement, [Values] bool shuffle)
    {
        var sampler = Samplers.Make(kind, withReplacement: withReplacement, shuffle: shuffle, seed: 3);
        Run(sampler, 0, 40);
        var restored = Samplers.Make(kind, withReplacement: withReplacement, shuffle: shuffle, seed: 4);
        Run(restored, 0, 3);

        restored.Load(sampler.Save());

        restored.Save().Should().Equal(sampler.Save());
        Run(restored, 40, 80).Should().Equal(Run(sampler, 40, 80));
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.All))]
    public void SaveState_does_not_change_what_follows(string kind)
    {
        var saved = Samplers.Make(kind);
        var plain = Samplers.Make(kind);
        Run(saved, 0, 40);
        Run(plain, 0, 40);

        saved.Save();

        Run(saved, 40, 80).Should().Equal(Run(plain, 40, 80));
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.All))]
    public void LoadState_reads_its_own_state_and_nothing_behind_it(string kind)
    {
        var sampler = Samplers.Make(kind);
        Run(sampler, 0, 5);
        var state = sampler.Save();
        using var stream = new MemoryStream([.. state, 1, 2, 3]);
        using var reader = new BinaryReader(stream);

        Samplers.Make(kind).LoadState(reader);

        stream.Position.Should().Be(state.Length);
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.All))]
    public void State_cut_short_anywhere_is_refused_and_changes_nothing(string kind)
    {
        var saved = Samplers.Make(kind, seed: 8);
        Run(saved, 0, 5);
        var state = saved.Save();
        var (sampler, untouched) = (Samplers.Make(kind), Samplers.Make(kind));
        Run(sampler, 0, 3);
        Run(untouched, 0, 3);

        for (var length = 0; length < state.Length; length++)
        {
            var load = () => sampler.Load(state[..length]);
            load.Should().Throw<InvalidDataException>();
        }

        sampler.Save().Should().Equal(untouched.Save());
        Run(sampler, 3, 10).Should().Equal(Run(untouched, 3, 10));
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.All))]
    public void Damaged_state_is_refused_or_taken_as_it_is(string kind)
    {
        var saved = Samplers.Make(kind, seed: 8);
        Run(saved, 0, 5);
        var state = saved.Save();

        Gen.Select(Gen.Int[0, state.Length - 1], Gen.Byte[1, 255], Gen.Int[1, 8]).Sample(
            (position, flip, length) =>
            {
                var damaged = state.ToArray();
                for (var i = position; i < Math.Min(position + length, state.Length); i++) damaged[i] ^= flip;
                var sampler = Samplers.Make(kind);
                var before = sampler.Save();
                try
                {
                    sampler.Load(damaged);
                }
                catch (InvalidDataException)
                {
                    sampler.Save().Should().Equal(before);
                    return;
                }

                sampler.Save().Should().Equal(damaged);
                try
                {
                    Run(sampler, 5, 6);
                }
                catch (ArgumentException)
                {
                    // The range is not that of the history that the state is now said to be of.
                }
            },
            iter: 500,
            seed: "0000dGqgr0W5",
            threads: 1);
    }

    [TestCaseSource(nameof(OnePerClass))]
    public void State_of_another_kind_is_refused(string kind)
    {
        foreach (var other in OnePerClass.Where(other => other != kind))
        {
            var load = () => Samplers.Make(kind).Load(Samplers.Make(other).Save());
            load.Should().Throw<InvalidDataException>().WithMessage($"*state of {Samplers.Make(other).StateKind}*not of {Samplers.Make(kind).StateKind}*");
        }
    }

    [TestCaseSource(typeof(Samplers), nameof(Samplers.Drawing))]
    public void State_of_a_sampler_with_other_common_options_is_refused(string kind)
    {
        var state = Samplers.Make(kind).Save();
        ISampler[] others = [Samplers.Make(kind, alwaysIncludeNew: false), Samplers.Make(kind, withReplacement: true), Samplers.Make(kind, shuffle: true)];

        foreach (var other in others)
        {
            var load = () => other.Load(state);
            load.Should().Throw<InvalidDataException>().WithMessage($"*state of {Samplers.Make(kind).StateKind}*not of {other.StateKind}*");
        }
    }

    [TestCase("window")]
    [TestCase("linear")]
    [TestCase("exponential")]
    [TestCase("inverse-frequency")]
    public void State_of_a_sampler_with_other_options_of_its_kind_is_refused(string kind)
    {
        var (sampler, other) = (Samplers.Make(kind), Samplers.MakeOther(kind)!);
        var load = () => other.Load(sampler.Save());

        load.Should().Throw<InvalidDataException>().WithMessage($"*state of {sampler.StateKind}*not of {other.StateKind}*");
    }

    [Test]
    public void State_that_claims_more_samples_than_it_has_takes_no_memory_for_them()
    {
        var sampler = Samplers.Make("inverse-frequency");
        sampler.Sample(new SampleRange(0, 2, 2), 1);
        var state = sampler.Save();

        // The state ends with first, end, two counts and two members.
        BitConverter.TryWriteBytes(state.AsSpan(state.Length - 24), (long)int.MaxValue);
        var load = () => sampler.Load(state);

        load.Should().Throw<InvalidDataException>();
        var before = GC.GetAllocatedBytesForCurrentThread();
        load.Should().Throw<InvalidDataException>();
        (GC.GetAllocatedBytesForCurrentThread() - before).Should().BeLessThan(4 << 20);
    }

    /// <summary>Steps of a stream with two arrivals and one departure each; all of its batches in one sequence.</summary>
    private static long[] Run(ISampler sampler, int firstStep, int endStep)
    {
        var indices = new List<long>();
        for (var step = firstStep; step < endStep; step++)
        {
            var range = new SampleRange(step, 20 + (2 * step), 22 + (2 * step));
            indices.AddRange(sampler.Sample(range, 8));
        }

        return [.. indices];
    }
}
