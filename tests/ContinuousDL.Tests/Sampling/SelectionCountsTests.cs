using ContinuousDL.Randomness;
using ContinuousDL.Sampling;
using CsCheck;

namespace ContinuousDL.Tests.Sampling;

/// <summary>The structure behind the inverse-frequency sampler.</summary>
public class SelectionCountsTests
{
    [TestCase(new[] { 1, 1, 1 })]
    [TestCase(new[] { 1, 2, 3, 4, 5, 6, 7, 8, 9 })]
    [TestCase(new[] { 1, 100, 64, 127, 128, 2, 2, 2 })]
    [TestCase(new[] { int.MaxValue, int.MaxValue - 1, 1 << 30, (1 << 30) - 1 })]
    public void Draws_follow_the_inverse_of_the_counts(int[] selections)
    {
        var counts = Make(5, selections);

        var drawn = CountDraws(counts, 5, selections.Length, new RandomSource(1));

        drawn.ShouldFit(Weights(selections));
    }

    [Test]
    public void Samples_set_aside_are_not_drawn_until_they_are_put_back()
    {
        var counts = Make(0, [1, 2, 3, 4]);
        counts.SetAside(0);
        counts.SetAside(2);

        var drawn = CountDraws(counts, 0, 4, new RandomSource(2));
        (drawn[0], drawn[2]).Should().Be((0, 0));
        new[] { drawn[1], drawn[3] }.ShouldFit(Weights([2, 4]));

        counts.PutBack(2);
        counts.PutBack(0);
        CountDraws(counts, 0, 4, new RandomSource(3)).ShouldFit(Weights([1, 2, 3, 4]));
    }

    [Test]
    public void Counted_selections_change_the_weights()
    {
        var counts = Make(0, [1, 1, 1]);
        for (var i = 0; i < 4; i++) Select(counts, 1);

        CountDraws(counts, 0, 3, new RandomSource(4)).ShouldFit(Weights([1, 5, 1]));
    }

    [Test]
    public void Count_ends_at_its_highest_value()
    {
        var counts = Make(0, [int.MaxValue - 1, int.MaxValue]);
        for (var i = 0; i < 3; i++) Select(counts, i % 2);
        Select(counts, 1);

        Save(counts).Should().Equal(Save(Make(0, [int.MaxValue, int.MaxValue])));
    }

    /// <summary>Long enough for several chunks of memory; what is saved is what a plain list says.</summary>
    [Test]
    public void Any_operations_leave_the_counts_that_they_should()
    {
        var operations = Gen.Select(Gen.Int[0, 2], Gen.Int[0, 50_000], Gen.Int[1, 9]);

        Gen.Select(Gen.Long[0, 1L << 40], operations.Array[1, 12]).Sample(
            (first, steps) =>
            {
                var counts = new SelectionCounts(first);
                var plain = new LinkedList<int>();
                var random = new Random(1);
                foreach (var (operation, times, initial) in steps)
                {
                    for (var i = 0; i < times; i++)
                    {
                        if (operation == 0)
                        {
                            counts.Append(initial);
                            plain.AddLast(initial);
                        }
                        else if (operation == 1 && plain.Count > 0)
                        {
                            counts.DropFirst();
                            plain.RemoveFirst();
                            first++;
                        }
                        else if (plain.Count > 0 && i < 1_000)
                        {
                            Select(counts, counts.First);
                            plain.First!.ValueRef++;
                        }
                    }
                }

                (counts.First, counts.End).Should().Be((first, first + plain.Count));
                var saved = Save(counts);
                Counts(saved).Should().Equal(plain);
                Save(Load(saved)).Should().Equal(saved);
                while (counts.First < counts.End) counts.DropFirst();
                Save(counts).Length.Should().Be(16);
            },
            iter: 20,
            seed: "0000dGqgr0W5",
            threads: 1);
    }

    [Test]
    public void Dropped_samples_give_their_memory_to_new_ones()
    {
        var counts = Make(0, new int[200_000].Select(_ => 1).ToArray());
        SlideOver();

        AllocatedBytes.OfRun(SlideOver).Should().Be(0);

        void SlideOver()
        {
            for (var i = 0; i < 200_000; i++) Slide();
        }

        void Slide()
        {
            counts.DropFirst();
            counts.Append(1);
        }
    }

    private static IEnumerable<TestCaseData> DamagedData()
    {
        yield return Case("negative first index", -1, 1, [1, 1], [0, 1]);
        yield return Case("end before first", 3, 2, [], []);
        yield return Case("more samples than there can be", 0, 1L << 31, [1, 1], [0, 1]);
        yield return Case("a difference that overflows", 0, long.MinValue, [1, 1], [0, 1]);
        yield return Case("a count of zero", 2, 4, [1, 0], [0, 1]);
        yield return Case("a negative count", 2, 4, [1, -1], [0, 1]);
        yield return Case("a member twice", 2, 4, [1, 1], [1, 1]);
        yield return Case("a member that is not there", 2, 4, [1, 1], [0, 2]);
        yield return Case("a negative member", 2, 4, [1, 1], [0, -1]);
        yield return Case("a member beyond the highest index", long.MaxValue - 2, long.MaxValue, [1, 1], [0, int.MaxValue]);
        yield return Case("members in groups of other counts", 2, 4, [1, 2], [1, 0]);

        static TestCaseData Case(string name, long first, long end, int[] selections, int[] members) =>
            new TestCaseData(Data(first, end, selections, members)).SetArgDisplayNames(name);
    }

    [TestCaseSource(nameof(DamagedData))]
    public void Damaged_data_is_refused(byte[] data)
    {
        var load = () => Load(data);

        load.Should().Throw<InvalidDataException>();
    }

    [Test]
    public void Saved_are_the_interval_the_counts_and_the_members_of_each_group()
    {
        Save(Make(2, [1, 5, 1])).Should().Equal(Data(2, 5, [1, 5, 1], [0, 2, 1]));
    }

    private static SelectionCounts Make(long first, int[] selections)
    {
        var counts = new SelectionCounts(first);
        foreach (var count in selections) counts.Append(count);
        return counts;
    }

    private static void Select(SelectionCounts counts, long index)
    {
        counts.SetAside(index);
        counts.CountSelection(index);
        counts.PutBack(index);
    }

    private static long[] CountDraws(SelectionCounts counts, long first, int length, RandomSource random)
    {
        var drawn = new long[length];
        var places = new long[100];
        for (var i = 0; i < 500; i++)
        {
            counts.Draw(random, places, setAside: false);
            foreach (var index in places) drawn[index - first]++;
        }
        return drawn;
    }

    private static double[] Weights(int[] selections)
    {
        var total = selections.Sum(count => 1.0 / count);
        return [.. selections.Select(count => 1.0 / count / total)];
    }

    private static byte[] Save(SelectionCounts counts)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream);
        counts.Save(writer);
        return stream.ToArray();
    }

    private static byte[] Data(long first, long end, int[] selections, int[] members) =>
    [
        .. BitConverter.GetBytes(first),
        .. BitConverter.GetBytes(end),
        .. selections.Concat(members).SelectMany(BitConverter.GetBytes),
    ];

    private static SelectionCounts Load(byte[] data)
    {
        using var reader = new BinaryReader(new MemoryStream(data));
        return SelectionCounts.Load(reader);
    }

    private static IEnumerable<int> Counts(byte[] saved)
    {
        var count = BitConverter.ToInt64(saved, 8) - BitConverter.ToInt64(saved, 0);
        for (var i = 0; i < count; i++) yield return BitConverter.ToInt32(saved, 16 + (4 * i));
    }
}
