using ContinuousDL.History;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.History;

/// <summary>What a history on disk does beside what every history does: it is still there, whole or said not to be.</summary>
public sealed class MappedSampleHistoryTests : SampleHistoryContractTests
{
    private string root = "";
    private int made;

    // A file for every sample would take a while.
    protected override long[] ChunkSizes => [2_000, 20_000, DefaultChunk];

    protected override int Runs => 30;

    [SetUp]
    public void MakeFolder() => root = Directory.CreateTempSubdirectory("mapped-history-").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(root, recursive: true);

    protected override ISampleHistory Create(long? capacity = null, long chunkBytes = DefaultChunk) =>
        new MappedSampleHistory(Path.Combine(root, $"{made++}"), new() { Capacity = capacity, SegmentBytes = chunkBytes });

    [Test]
    public void Reopened_history_has_the_samples_and_goes_on_where_it_stopped([Values(40L, DefaultChunk)] long segmentBytes)
    {
        using (var history = Open(segmentBytes))
        {
            HistorySamples.AppendNumbers(history, 0, 7);
            HistorySamples.AppendNumbers(history, 7, 3);
        }

        using var reopened = Open(segmentBytes);
        (reopened.FirstIndex, reopened.EndIndex, reopened.CutSamples).Should().Be((0, 10, 0));
        HistorySamples.AppendNumbers(reopened, 10, 2).Should().Be(10);
        ShouldHoldNumbers(reopened);
    }

    [Test]
    public void Reopened_history_refuses_samples_of_another_format()
    {
        using (var history = Open()) HistorySamples.AppendNumbers(history, 0, 7);

        using var reopened = Open();
        using var inputs = ones(2, 3);
        using var targets = zeros(2, dtype: int64);
        reopened.Invoking(h => h.Append(inputs, targets)).Should().Throw<ArgumentException>().WithParameterName("inputs");
    }

    [Test]
    public void Reopened_history_without_samples_takes_any_format()
    {
        Open().Dispose();

        using var reopened = Open();
        (reopened.FirstIndex, reopened.EndIndex).Should().Be((0, 0));
        HistorySamples.AppendNumbers(reopened, 0, 2).Should().Be(0);
    }

    [TestCaseSource(nameof(Dtypes))]
    public void Reopened_history_has_samples_of_every_dtype_bit_by_bit(ScalarType dtype)
    {
        using var inputs = HistorySamples.RandomBits(new Random(1), [5, 2, 3], dtype);
        using var targets = HistorySamples.RandomBits(new Random(2), [5, 0], dtype);
        using (var history = Open(200)) history.Append(inputs, targets);

        using var reopened = Open(200);
        using var batch = reopened.Gather([0, 1, 2, 3, 4]);
        (batch.Inputs.dtype, batch.Targets.dtype).Should().Be((dtype, dtype));
        batch.Targets.shape.Should().Equal(5, 0);
        HistorySamples.Bytes(batch.Inputs).Should().Equal(HistorySamples.Bytes(inputs));
    }

    [Test]
    public void Forgotten_samples_stay_forgotten_whatever_the_capacity_is_later()
    {
        using (var history = Open(60, capacity: 5)) HistorySamples.AppendNumbers(history, 0, 12);

        using (var larger = Open(60)) (larger.FirstIndex, larger.EndIndex).Should().Be((7, 12));
        using (var smaller = Open(60, capacity: 2)) (smaller.FirstIndex, smaller.EndIndex).Should().Be((10, 12));
        using var reopened = Open(60, capacity: 2);
        HistorySamples.AppendNumbers(reopened, 12, 1);
        using var batch = reopened.Gather([11, 12]);
        batch.Inputs.data<float>().Should().Equal(11, 12);
    }

    [Test]
    public void Capacity_bounds_the_files()
    {
        using var history = Open(capacity: 100);
        for (var i = 0; i < 60; i++) HistorySamples.AppendNumbers(history, i * 7, 7);

        // Nine files and a bit.
        Directory.GetFiles(Folder, "*.samples").Should().HaveCountLessThanOrEqualTo(10);
    }

    [Test]
    public void Second_history_on_a_directory_is_refused_until_the_first_is_closed()
    {
        using (var history = Open())
        {
            var second = () => Open();
            second.Should().Throw<SampleHistoryException>().WithMessage("*in use*");
            HistorySamples.AppendNumbers(history, 0, 2);
        }

        using var later = Open();
        later.Count.Should().Be(2);
    }

    /// <summary>What a kill leaves is what the files hold at that moment, without anything that closing does.</summary>
    [Test]
    public void Samples_whose_append_returned_are_there_without_closing([Values(60L, DefaultChunk)] long segmentBytes)
    {
        using var history = Open(segmentBytes);
        for (var i = 0; i < 20; i += 2)
        {
            HistorySamples.AppendNumbers(history, i, 2);
            using var crashed = new MappedSampleHistory(CopyOfFiles());
            (crashed.EndIndex, crashed.CutSamples).Should().Be((i + 2, 0));
            ShouldHoldNumbers(crashed);
        }
    }

    /// <summary>After a power loss any part of what was not flushed may be missing or, where the file has grown, zero.</summary>
    [Test]
    public void Tail_torn_at_any_byte_is_cut_back_to_whole_samples([Values] bool zeros)
    {
        using var history = Open();
        HistorySamples.AppendNumbers(history, 0, 3);
        history.Flush();
        HistorySamples.AppendNumbers(history, 3, 3);
        const int stride = 4 + 8 + 8, first = 4096;
        for (var end = first + (3 * stride); end <= first + (6 * stride); end++)
        {
            var copy = CopyOfFiles();
            Tear(Directory.GetFiles(copy, "*.samples").Single(), end, zeros);
            using var torn = new MappedSampleHistory(copy);
            var whole = (end - first) / stride;
            (torn.EndIndex, torn.CutSamples).Should().Be((whole, 6 - whole));
            ShouldHoldNumbers(torn);
            HistorySamples.AppendNumbers(torn, whole, 4);
            ShouldHoldNumbers(torn);
        }
    }

    [Test]
    public void Tail_torn_in_any_of_several_files_is_cut_back_to_whole_samples()
    {
        // Two samples a file, and an append over four files, the first of which was half full.
        const int stride = 4 + 8 + 8, first = 4096;
        using var history = Open(2 * stride);
        HistorySamples.AppendNumbers(history, 0, 1);
        HistorySamples.AppendNumbers(history, 1, 6);
        var files = Directory.GetFiles(Folder, "*.samples").Order().ToArray();
        files.Should().HaveCount(4);
        for (var file = 0; file < files.Length; file++)
        {
            for (var end = first; end < first + (2 * stride); end += 7)
            {
                var copy = CopyOfFiles();
                foreach (var unflushed in Directory.GetFiles(copy, "*.samples")) Tear(unflushed, 3072, zeros: true, length: 24);
                Tear(Path.Combine(copy, Path.GetFileName(files[file])), end, zeros: true, length: (2 * stride) - (end - first));
                using var torn = new MappedSampleHistory(copy);
                var whole = Math.Min(7, (2 * file) + ((end - first) / stride));
                torn.EndIndex.Should().Be(whole);
                ShouldHoldNumbers(torn);
                HistorySamples.AppendNumbers(torn, whole, 3);
                ShouldHoldNumbers(torn);
            }
        }
    }

    [Test]
    public void Append_that_was_not_committed_everywhere_is_not_there_at_all()
    {
        const int stride = 4 + 8 + 8;
        using var history = Open(2 * stride);
        HistorySamples.AppendNumbers(history, 0, 1);
        var before = File.ReadAllBytes(Directory.GetFiles(Folder, "*.samples").Single());
        HistorySamples.AppendNumbers(history, 1, 6);
        var copy = CopyOfFiles();
        foreach (var unflushed in Directory.GetFiles(copy, "*.samples")) Tear(unflushed, 3072, zeros: true, length: 24);
        File.WriteAllBytes(Directory.GetFiles(copy, "*.samples").Order().First(), before);

        using var crashed = new MappedSampleHistory(copy);

        crashed.EndIndex.Should().Be(1);
        HistorySamples.AppendNumbers(crashed, 1, 6);
        ShouldHoldNumbers(crashed);
    }

    /// <summary>Damage is said to be there, or does not matter: no other samples are ever given out.</summary>
    [Test]
    public void Damage_of_any_byte_is_found_or_harmless()
    {
        using (var history = Open()) HistorySamples.AppendNumbers(history, 0, 3);
        var file = Directory.GetFiles(Folder, "*.samples").Single();
        var whole = File.ReadAllBytes(file)[..(4096 + (3 * 20))];
        var harmless = 0;
        foreach (var position in Enumerable.Range(0, whole.Length).Where(i => i is < 110 or (>= 2048 and < 2072) or (>= 3072 and < 3096) or >= 4096))
        {
            var damaged = whole.ToArray();
            damaged[position] ^= 0x10;
            File.WriteAllBytes(file, damaged);
            try
            {
                using var opened = Open();
                if (position >= 4096)
                {
                    var sample = (position - 4096) / 20;
                    opened.Verify().Should().Be(sample);
                    opened.Invoking(h => h.Gather([0, 1, 2])).Should().Throw<SampleHistoryException>().Which.SampleIndex.Should().Be(sample);
                    continue;
                }

                harmless++;
                opened.EndIndex.Should().Be(3);
                opened.Verify().Should().BeNull();
                ShouldHoldNumbers(opened);
            }
            catch (SampleHistoryException e)
            {
                position.Should().BeLessThan(2048, e.Message);
            }
        }

        harmless.Should().BePositive();
    }

    [Test]
    public void Lost_count_of_samples_is_found_again_from_the_samples()
    {
        using (var history = Open()) HistorySamples.AppendNumbers(history, 0, 3);
        Tear(Directory.GetFiles(Folder, "*.samples").Single(), 2048, zeros: true, length: 24);

        using var opened = Open();

        opened.EndIndex.Should().Be(3);
        ShouldHoldNumbers(opened);
    }

    [Test]
    public void File_cut_short_below_what_was_flushed_is_refused()
    {
        using (var history = Open()) HistorySamples.AppendNumbers(history, 0, 3);
        var file = Directory.GetFiles(Folder, "*.samples").Single();
        foreach (var length in new[] { 4096 + 59, 4096, 100, 0 })
        {
            Tear(file, length, zeros: false);
            var open = () => Open();
            open.Should().Throw<SampleHistoryException>().WithMessage("*short*");
        }
    }

    [Test]
    public void File_cut_short_by_somebody_else_is_found_when_the_next_one_is_begun_and_not_read_any_more()
    {
        using var history = Open(40);
        HistorySamples.AppendNumbers(history, 0, 5);
        using (var file = new FileStream(Directory.GetFiles(Folder, "*.samples").Order().First(), FileMode.Open, FileAccess.Write, FileShare.ReadWrite)) file.SetLength(0);

        HistorySamples.AppendNumbers(history, 5, 1).Should().Be(5, "there is room in the file that is open");
        history.Invoking(h => HistorySamples.AppendNumbers(h, 6, 1)).Should().Throw<SampleHistoryException>().WithMessage("*made shorter*");
        history.EndIndex.Should().Be(6);
        history.Invoking(h => h.Gather([0])).Should().Throw<SampleHistoryException>().Which.SampleIndex.Should().Be(0);
        using (var batch = history.Gather([4])) batch.Inputs.data<float>()[0].Should().Be(4);
        history.Invoking(h => HistorySamples.AppendNumbers(h, 6, 1)).Should().Throw<SampleHistoryException>();
        history.Invoking(h => h.Verify()).Should().Throw<SampleHistoryException>();
    }

    [Test]
    public void File_removed_by_somebody_else_is_found_when_the_next_one_is_begun()
    {
        using var history = Open(40);
        HistorySamples.AppendNumbers(history, 0, 6);
        File.Delete(Directory.GetFiles(Folder, "*.samples").Order().First());
        history.Invoking(h => HistorySamples.AppendNumbers(h, 6, 1)).Should().Throw<SampleHistoryException>().WithMessage("*removed*");
    }

    [Test]
    public void Missing_file_is_refused()
    {
        using (var history = Open(40)) HistorySamples.AppendNumbers(history, 0, 6);
        File.Delete(Directory.GetFiles(Folder, "*.samples").Order().ElementAt(1));

        var open = () => Open(40);

        open.Should().Throw<SampleHistoryException>().WithMessage("*missing*");
    }

    [Test]
    public void Append_that_cannot_be_written_keeps_nothing_and_can_be_tried_again()
    {
        using var history = Open(40);
        HistorySamples.AppendNumbers(history, 0, 3);

        // The name of the next file is taken by a directory.
        var obstacle = Directory.CreateDirectory(Path.Combine(Folder, "00000000000000000006.samples"));
        history.Invoking(h => HistorySamples.AppendNumbers(h, 3, 6)).Should().Throw<IOException>();
        (history.EndIndex, Directory.GetFiles(Folder, "*.samples").Length).Should().Be((3, 2));
        obstacle.Delete();

        HistorySamples.AppendNumbers(history, 3, 6).Should().Be(3);
        ShouldHoldNumbers(history);
    }

    [Test]
    public void Flushed_on_each_append_nothing_has_to_be_looked_at_when_it_is_opened()
    {
        using var history = new MappedSampleHistory(Folder, new() { FlushEachAppend = true });
        HistorySamples.AppendNumbers(history, 0, 3);
        var copy = CopyOfFiles();
        Tear(Directory.GetFiles(copy, "*.samples").Single(), 4096 + 20, zeros: true, length: 4);

        using var opened = new MappedSampleHistory(copy);

        (opened.EndIndex, opened.Verify()).Should().Be((3, 1));
    }

    [Test]
    public void Flush_may_be_called_while_samples_are_appended_and_forgotten()
    {
        using var history = Open(60, capacity: 50);
        using var stop = new CancellationTokenSource();
        var flushing = Task.Run(() =>
        {
            while (!stop.IsCancellationRequested) history.Flush();
        });

        for (var i = 0; i < 300; i += 3) HistorySamples.AppendNumbers(history, i, 3);
        stop.Cancel();
        flushing.Wait();

        using var reopened = new MappedSampleHistory(CopyOfFiles());
        (reopened.FirstIndex, reopened.EndIndex).Should().Be((250, 300));
        ShouldHoldNumbers(reopened);
    }

    [Test]
    public void Options_out_of_range_fail_and_are_named()
    {
        var capacity = () => new MappedSampleHistory(Folder, new() { Capacity = 0 });
        var segment = () => new MappedSampleHistory(Folder, new() { SegmentBytes = 0 });
        var directory = () => new MappedSampleHistory("");

        capacity.Should().Throw<ArgumentException>().WithMessage("*MappedSampleHistoryOptions.Capacity is 0*").WithParameterName("options");
        segment.Should().Throw<ArgumentException>().WithMessage("*MappedSampleHistoryOptions.SegmentBytes is 0*");
        directory.Should().Throw<ArgumentException>().WithParameterName("directory");
    }

    private string Folder => Path.Combine(root, "history");

    private MappedSampleHistory Open(long segmentBytes = DefaultChunk, long? capacity = null) =>
        new(Folder, new() { SegmentBytes = segmentBytes, Capacity = capacity });

    private string CopyOfFiles()
    {
        var copy = Directory.CreateDirectory(Path.Combine(root, $"copy-{made++}")).FullName;
        foreach (var file in Directory.GetFiles(Folder, "*.samples"))
        {
            // Sparse files stay so: what lies behind the samples is a hole.
            using var source = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            using var target = File.Create(Path.Combine(copy, Path.GetFileName(file)));
            var start = new byte[Math.Min(source.Length, 1 << 16)];
            source.ReadExactly(start);
            target.Write(start);
            target.SetLength(source.Length);
        }

        return copy;
    }

    /// <summary>Ends a file early, or makes it zero from there on.</summary>
    private static void Tear(string file, long position, bool zeros, long length = 1 << 12)
    {
        using var stream = new FileStream(file, FileMode.Open, FileAccess.ReadWrite);
        if (!zeros)
        {
            stream.SetLength(position);
            return;
        }

        stream.Position = position;
        stream.Write(new byte[length]);
    }

    private static void ShouldHoldNumbers(ISampleHistory history)
    {
        if (history.Count == 0) return;
        var indices = HistorySamples.Indices(history.FirstIndex, history.EndIndex);
        using var batch = history.Gather(indices);
        batch.Inputs.data<float>().ToArray().Should().Equal(indices.Select(i => (float)i));
        batch.Targets.data<long>().ToArray().Should().Equal(indices.Select(i => -i));
    }
}
