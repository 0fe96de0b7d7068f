using ContinuousDL.Diagnostics;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests.Samples;
using Microsoft.Extensions.Logging;

namespace ContinuousDL.Tests.UpdateLogs;

/// <summary>What a log keeps and for how long, how it deals with failing compactions, and what its files are.</summary>
public class LogUpkeepTests
{
    private TemporaryFolder folder = null!;
    private SettableClock clock = null!;

    [SetUp]
    public void MakeFolder() => (folder, clock) = (new TemporaryFolder(), new SettableClock());

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void The_longest_age_keeps_everything()
    {
        var states = new PublishedStates(1);
        using var log = Start(states, new() { KeepAge = TimeSpan.MaxValue, SnapshotInterval = 2, FlushOnAppend = false });
        Append(log, states, 10);
        log.Compact();
        (log.OldestSequence, log.Head!.Value.Sequence, log.CompactionError).Should().Be((0, 10, null));
    }

    [TestCase(1)]
    [TestCase(1 << 20)]
    public void A_clock_that_was_ahead_for_a_while_keeps_nothing_for_longer(int segmentBytes)
    {
        var states = new PublishedStates(1);
        using var log = StartWithAge(states, segmentBytes);
        Fill(log, states, 100);
        clock.Now += TimeSpan.FromDays(400);
        Fill(log, states, 100);
        clock.Now -= TimeSpan.FromDays(400);
        Fill(log, states, 10);
        clock.Now += TimeSpan.FromHours(2);
        Fill(log, states, 6, compactEvery: 6);
        log.OldestSequence.Should().Be(210);
    }

    [TestCase(1)]
    [TestCase(1 << 20)]
    public void A_clock_that_was_behind_for_a_while_removes_nothing_sooner(int segmentBytes)
    {
        var states = new PublishedStates(1);
        using var log = StartWithAge(states, segmentBytes);
        Fill(log, states, 100);
        clock.Now -= TimeSpan.FromDays(400);
        Fill(log, states, 20);
        clock.Now += TimeSpan.FromDays(400);
        Fill(log, states, 100);
        log.OldestSequence.Should().Be(0);
    }

    [Test]
    public void A_compaction_that_fails_is_tried_again_after_longer_and_longer_and_begins_no_file_each_time()
    {
        var states = new PublishedStates(1);
        var logger = new FailureCounter();
        using var log = Start(states, new() { SnapshotInterval = 2, FlushOnAppend = false }, logger);
        var run = Directory.GetDirectories(folder.Path).Single();

        // Every name that a snapshot of these states could get is taken.
        var obstacles = Enumerable.Range(1, 200).Select(s => Directory.CreateDirectory(Path.Combine(run, $"snapshot-{s:D19}.safetensors"))).ToArray();
        AppendAndWaitForFailure(1);
        Append(log, states, 10);
        logger.Failures.Should().Be(1, "it is too early");
        clock.Now += TimeSpan.FromSeconds(1);
        AppendAndWaitForFailure(2);
        clock.Now += TimeSpan.FromSeconds(1);
        Append(log, states, 10);
        logger.Failures.Should().Be(2, "it waits twice as long now");
        clock.Now += TimeSpan.FromSeconds(1);
        AppendAndWaitForFailure(3);
        Directory.GetFiles(run, "updates-*").Should().HaveCountLessThanOrEqualTo(2);
        Directory.GetFiles(run, "*.tmp").Should().BeEmpty();

        foreach (var obstacle in obstacles) obstacle.Delete();
        clock.Now += TimeSpan.FromSeconds(4);
        Append(log, states, 1);
        SpinWait.SpinUntil(() => log.CompactionError is null, Patience.Limit).Should().BeTrue();
        Append(log, states, 1);
        Directory.GetFiles(run, "snapshot-*").Should().HaveCountGreaterThan(1);

        void AppendAndWaitForFailure(int number)
        {
            Append(log, states, 2);
            SpinWait.SpinUntil(() => logger.Failures >= number, Patience.Limit).Should().BeTrue();
        }
    }

    [Test]
    public void With_segments_of_one_byte_each_file_is_written_once_under_its_own_name()
    {
        var states = new PublishedStates(1);
        var events = new List<string>();
        using var log = Start(states, new() { SegmentBytes = 1, CompactAutomatically = false });
        var run = Directory.GetDirectories(folder.Path).Single();
        var sizes = new Dictionary<string, (long Bytes, DateTime Written)>();
        for (var i = 0; i < 5; i++)
        {
            Append(log, states, 1);
            foreach (var (file, before) in sizes) (new FileInfo(file).Length, File.GetLastWriteTimeUtc(file)).Should().Be(before);
            foreach (var file in Directory.GetFiles(run, "updates-*")) sizes[file] = (new FileInfo(file).Length, File.GetLastWriteTimeUtc(file));
            sizes.Should().HaveCount(i + 1);
            OpenFiles().Should().NotContain(f => f.Contains("updates-", StringComparison.Ordinal), "nothing is to be appended");
        }

        IEnumerable<string> OpenFiles() => !OperatingSystem.IsLinux() ? [] : Directory.GetFiles("/proc/self/fd")
            .Select(f => new FileInfo(f).LinkTarget ?? "").Where(t => t.StartsWith(folder.Path, StringComparison.Ordinal));
    }

    [Test]
    public void A_crash_at_any_byte_of_a_file_that_is_written_once_leaves_what_was_appended_before()
    {
        var states = new PublishedStates(1);
        var options = new UpdateLogOptions { SegmentBytes = 1, FlushOnAppend = false };
        using (var log = Start(states, options)) Append(log, states, 3);
        var file = Directory.GetFiles(Directory.GetDirectories(folder.Path).Single(), "updates-*").Order(StringComparer.Ordinal).Last();
        var whole = File.ReadAllBytes(file);
        for (var length = 0; length < whole.Length; length++)
        {
            foreach (var rest in new[] { 0, whole.Length - length })
            {
                File.WriteAllBytes(file, [.. whole[..length], .. new byte[rest]]);
                if (File.ReadAllBytes(file).AsSpan().SequenceEqual(whole)) continue;

                // Cut within the header's bytes and filled up, it is no header and not the beginning of one.
                if (rest > 0 && length is > 0 and < 56) continue;
                using var log = UpdateLog.Open(folder.Path, options);
                (log.Head!.Value.Sequence, log.BytesCut).Should().Be((2, length + rest - (length + rest < 56 || length == 0 ? 0 : 56)));
                using var third = ModelUpdate.Between(states.States[2], states.States[3], 3);
                log.Append(third).Should().BeTrue();
                File.ReadAllBytes(file).Length.Should().Be(whole.Length);
            }
        }
    }

    [Test]
    public async Task A_reader_takes_a_file_that_is_being_written_for_not_there_yet()
    {
        var states = new PublishedStates(1);
        using var log = Start(states, new() { SegmentBytes = 1, FlushOnAppend = false, CompactAutomatically = false });
        Append(log, states, 2);
        var source = new DirectoryUpdateSource(folder.Path, TimeSpan.FromMilliseconds(1), new ImpatientClock());
        (await source.ReceiveAsync(states.RunId, 1)).NewestSequence.Should().Be(2);
        var run = Directory.GetDirectories(folder.Path).Single();
        Append(log, states, 1);
        var file = Directory.GetFiles(run, "updates-*").Order(StringComparer.Ordinal).Last();
        var whole = File.ReadAllBytes(file);
        for (var length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(file, whole[..length]);
            (await source.ReceiveAsync(states.RunId, 2)).IsEmpty.Should().BeTrue();
            (await new DirectoryUpdateSource(folder.Path, null, new ImpatientClock()).ReceiveAsync(states.RunId, 2)).IsEmpty.Should().BeTrue();
        }

        File.WriteAllBytes(file, whole);
        (await source.ReceiveAsync(states.RunId, 2)).NewestSequence.Should().Be(3);
    }

    [Test]
    public async Task A_source_that_has_nothing_new_does_not_look_at_every_file()
    {
        var (few, many) = (await AllocatedByLooking("few", 20), await AllocatedByLooking("many", 500));
        many.Should().BeLessThan(2 * few);

        async Task<long> AllocatedByLooking(string name, int files)
        {
            var states = new PublishedStates(1);
            var directory = Path.Combine(folder.Path, name);
            using var log = UpdateLog.Open(directory, new() { SegmentBytes = 1, FlushOnAppend = false, CompactAutomatically = false });
            log.WriteSnapshot(states.Newest);
            Append(log, states, files);
            var source = new DirectoryUpdateSource(directory, TimeSpan.FromMilliseconds(1), new ImpatientClock());
            (await source.ReceiveAsync(states.RunId, files - 1)).NewestSequence.Should().Be(files);
            source.ReceiveAsync(states.RunId, files).AsTask().IsCompletedSuccessfully.Should().BeTrue("it looks once");
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < 5; i++) source.ReceiveAsync(states.RunId, files).AsTask().Result.IsEmpty.Should().BeTrue();
            return GC.GetAllocatedBytesForCurrentThread() - before;
        }
    }

    [Test]
    public async Task A_source_that_follows_finds_every_update_snapshot_and_run()
    {
        var states = new PublishedStates(1);
        using var log = Start(states, new() { SegmentBytes = 400, FlushOnAppend = false, SnapshotInterval = 10, KeepUpdates = 5, CompactAutomatically = false });
        var source = new DirectoryUpdateSource(folder.Path, TimeSpan.FromMilliseconds(1));
        for (var i = 0L; i < 100; i++)
        {
            Append(log, states, 1);
            var batch = await source.ReceiveAsync(states.RunId, i);
            (batch.Snapshot, batch.NewestSequence, batch.Messages.Count).Should().Be((null, i + 1, 1));
            if (i % 7 == 0) log.Compact();
        }

        (await source.ReceiveAsync(states.RunId, 1)).Snapshot!.Sequence.Should().BeGreaterThan(80);
        var other = new PublishedStates(2);
        log.WriteSnapshot(other.Newest);
        (await source.ReceiveAsync(states.RunId, 100)).Snapshot!.RunId.Should().Be(other.RunId);
    }

    [Test]
    public void A_poll_interval_that_no_timer_can_wait_for_is_refused()
    {
        FluentActions.Invoking(() => new DirectoryUpdateSource(folder.Path, TimeSpan.MaxValue)).Should().Throw<ArgumentOutOfRangeException>().WithParameterName("pollInterval");
    }

    private UpdateLog StartWithAge(PublishedStates states, int segmentBytes) => Start(
        states,
        new() { KeepAge = TimeSpan.FromHours(1), KeepUpdates = null, KeepBytes = null, SnapshotInterval = 10, FlushOnAppend = false, SegmentBytes = segmentBytes, CompactAutomatically = false });

    /// <summary>Appends updates, a second apart.</summary>
    private void Fill(UpdateLog log, PublishedStates states, int count, int compactEvery = 10)
    {
        for (var i = 1; i <= count; i++)
        {
            Append(log, states, 1);
            clock.Now += TimeSpan.FromSeconds(1);
            if (i % compactEvery == 0) log.Compact();
        }
    }

    private UpdateLog Start(PublishedStates states, UpdateLogOptions options, ILogger<UpdateLog>? logger = null)
    {
        var log = UpdateLog.Open(folder.Path, options, logger: logger, timeProvider: clock);
        log.WriteSnapshot(states.Newest);
        return log;
    }

    private static void Append(UpdateLog log, PublishedStates states, int count)
    {
        for (var i = 0; i < count; i++)
        {
            using var update = states.Next();
            log.Append(update).Should().BeTrue();
        }
    }

    /// <summary>A clock that the test sets; what passes by it passes for those that measure, too.</summary>
    private sealed class SettableClock : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2030, 1, 1, 0, 0, 0, TimeSpan.Zero);

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override DateTimeOffset GetUtcNow() => Now;

        public override long GetTimestamp() => Now.UtcTicks;
    }

    /// <summary>Every look at it an hour has passed: a source that waits a while looks once.</summary>
    private sealed class ImpatientClock : TimeProvider
    {
        private long hours;

        public override long TimestampFrequency => 1;

        public override long GetTimestamp() => hours++ * 3600;
    }

    private sealed class FailureCounter : ILogger<UpdateLog>
    {
        private int failures;

        public int Failures => Volatile.Read(ref failures);

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (logLevel == LogLevel.Error) Interlocked.Increment(ref failures);
        }
    }
}
