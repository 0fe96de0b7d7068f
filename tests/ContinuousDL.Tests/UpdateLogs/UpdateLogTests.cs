using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;
using ContinuousDL.Tests.Samples;

namespace ContinuousDL.Tests.UpdateLogs;

/// <summary>What was appended is there, in order, after whatever happens; and it brings any state to the newest one.</summary>
public class UpdateLogTests
{
    private static readonly UpdateCodec Codec = new();
    private TemporaryFolder folder = null!;

    [SetUp]
    public void MakeFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void An_empty_log_has_no_head_and_needs_a_snapshot_first()
    {
        using var log = Open();
        log.Head.Should().BeNull();
        log.OldestSequence.Should().BeNull();
        log.ReadFrom(Guid.NewGuid(), 3).Should().BeSameAs(UpdateBatch.Empty);
        log.Compact();
        using var update = new PublishedStates(1).Next();
        log.Invoking(l => l.Append(update)).Should().Throw<InvalidOperationException>().WithMessage("*snapshot*");
        log.Invoking(l => l.HeadSnapshot()).Should().Throw<InvalidOperationException>();
        log.Invoking(l => l.StateAt(0)).Should().Throw<InvalidOperationException>();
        var anonymous = new PublishedStates(1).Newest;
        log.Invoking(l => l.WriteSnapshot(new ModelSnapshot(anonymous.Layout, Values(anonymous), Guid.Empty, 0))).Should().Throw<ArgumentException>().WithMessage("*no training run*");
    }

    [Test]
    public void What_was_appended_is_there_after_reopening()
    {
        var states = new PublishedStates(1, sequence: 7);
        using (var log = Start(states))
        {
            Append(log, states, 20);
            log.Head.Should().Be(new NewestState(states.RunId, 27, states.Newest.StateDigest));
        }

        using var reopened = Open();
        reopened.BytesCut.Should().Be(0);
        reopened.Head.Should().Be(new NewestState(states.RunId, 27, states.Newest.StateDigest));
        reopened.OldestSequence.Should().Be(7);
        PublishedStates.ShouldBeTheSame(reopened.HeadSnapshot(), states.Newest);
        foreach (var (sequence, state) in states.States) PublishedStates.ShouldBeTheSame(reopened.StateAt(sequence), state);
        reopened.Invoking(l => l.StateAt(6)).Should().Throw<ArgumentOutOfRangeException>().WithMessage("*from 7 to 27*");
        reopened.Invoking(l => l.StateAt(28)).Should().Throw<ArgumentOutOfRangeException>();
        Append(reopened, states, 1);
    }

    [Test]
    public void Append_of_what_is_there_does_nothing_and_of_something_else_is_refused()
    {
        var states = new PublishedStates(1);
        using var log = Start(states);
        using var first = states.Next();
        using var second = states.Next();
        using var third = states.Next();
        log.Append(first).Should().BeTrue();
        log.Append(first).Should().BeFalse();
        log.Invoking(l => l.Append(third)).Should().Throw<UpdateGapException>();
        log.Append(second).Should().BeTrue();
        log.Append(first).Should().BeFalse();
        log.Append(second).Should().BeFalse();

        var other = new PublishedStates(1);
        using var sameFirst = other.Next();
        log.Append(sameFirst).Should().BeFalse("it is the same although another object");
        using var otherSecond = other.Next(9);
        log.Invoking(l => l.Append(otherSecond)).Should().Throw<UpdateConflictException>().Where(e => e.Sequence == 2);
        log.Append(third).Should().BeTrue();
        log.Invoking(l => l.Append(otherSecond)).Should().Throw<UpdateConflictException>().Where(e => e.Sequence == 2);

        using var foreign = new PublishedStates(2).Next();
        log.Invoking(l => l.Append(foreign)).Should().Throw<RunMismatchException>();
        log.Head!.Value.Sequence.Should().Be(3);
    }

    [Test]
    public void Append_of_an_update_that_does_not_lead_to_its_digest_changes_nothing()
    {
        var states = new PublishedStates(1);
        using var log = Start(states);
        var drifted = new PublishedStates(1, sequence: 0);
        using (drifted.Next())
        {
        }

        var from = new ModelSnapshot(drifted.Newest.Layout, Values(drifted.Newest), states.RunId, 0);
        using var next = drifted.Next();
        using var wrong = ModelUpdate.Between(from, new ModelSnapshot(from.Layout, Values(drifted.Newest), states.RunId, 1), 1);
        log.Invoking(l => l.Append(wrong)).Should().Throw<ReplicaDivergedException>();
        log.Head!.Value.Sequence.Should().Be(0);
        Append(log, states, 3);
        Reopened(log).Should().Be(log.Head);
    }

    [Test]
    public void A_second_writer_is_refused_until_the_first_is_gone()
    {
        var states = new PublishedStates(1);
        using (Start(states))
        {
            FluentActions.Invoking(() => Open()).Should().Throw<UpdateLogInUseException>().WithMessage("*writer*");
        }

        using var log = Open();
        log.Head!.Value.Sequence.Should().Be(0);
    }

    [Test]
    public void A_disposed_log_is_refused_and_ends_the_waits()
    {
        var states = new PublishedStates(1);
        var log = Start(states);
        var waiting = log.ReceiveAsync(states.RunId, 0).AsTask();
        log.Dispose();
        log.Dispose();
        waiting.Invoking(w => w.GetAwaiter().GetResult()).Should().Throw<ObjectDisposedException>();
        using var update = states.Next();
        log.Invoking(l => l.Append(update)).Should().Throw<ObjectDisposedException>();
        log.Invoking(l => l.ReadFrom(states.RunId, 0)).Should().Throw<ObjectDisposedException>();
        log.Invoking(l => l.HeadSnapshot()).Should().Throw<ObjectDisposedException>();
        log.Invoking(l => l.Compact()).Should().Throw<ObjectDisposedException>();
    }

    [TestCase(nameof(UpdateLogOptions.SegmentBytes))]
    [TestCase(nameof(UpdateLogOptions.SnapshotInterval))]
    [TestCase(nameof(UpdateLogOptions.KeepUpdates))]
    [TestCase(nameof(UpdateLogOptions.KeepBytes))]
    [TestCase(nameof(UpdateLogOptions.KeepAge))]
    public void A_wrong_option_is_named(string name)
    {
        var options = new UpdateLogOptions();
        var property = typeof(UpdateLogOptions).GetProperty(name)!;
        object wrong = property.PropertyType == typeof(TimeSpan?) ? TimeSpan.Zero : property.PropertyType == typeof(int) ? 0 : (object)0L;
        property.SetValue(options, wrong);
        FluentActions.Invoking(() => UpdateLog.Open(folder.Path, options)).Should().Throw<ArgumentException>().WithMessage($"*{name}*");
    }

    [Test]
    public void A_crash_at_any_byte_of_an_append_leaves_what_was_appended_before()
    {
        var states = new PublishedStates(1);
        using (var log = Start(states)) Append(log, states, 2);
        var file = Segment();
        var before = new FileInfo(file).Length;
        using (var log = Open()) Append(log, states, 1);
        var whole = File.ReadAllBytes(file);
        var third = ModelUpdate.Between(states.States[2], states.States[3], 3);
        for (var length = before; length <= whole.Length; length++)
        {
            foreach (var rest in new byte[]?[] { null, new byte[whole.Length - length] })
            {
                // A file system may have written the file's length before its content: then there are zeros.
                File.WriteAllBytes(file, [.. whole[..(int)length], .. rest ?? []]);
                var unchanged = File.ReadAllBytes(file).AsSpan().SequenceEqual(whole);
                using var log = Open();
                log.Head!.Value.Sequence.Should().Be(unchanged ? 3 : 2);
                log.BytesCut.Should().Be(unchanged ? 0 : length - before + (rest?.Length ?? 0));
                PublishedStates.ShouldBeTheSame(log.HeadSnapshot(), states.States[unchanged ? 3 : 2]);
                log.Append(third).Should().Be(!unchanged);
                PublishedStates.ShouldBeTheSame(log.HeadSnapshot(), states.States[3]);
            }
        }
    }

    [Test]
    public void Damage_anywhere_but_in_the_last_update_is_an_error_that_names_the_place()
    {
        var states = new PublishedStates(1);
        var ends = new List<long>();
        using (var log = Start(states))
        {
            for (var i = 0; i < 4; i++)
            {
                Append(log, states, 1);
                ends.Add(new FileInfo(Segment()).Length);
            }
        }

        var file = Segment();
        var whole = File.ReadAllBytes(file);
        for (var position = 0; position < ends[2]; position++)
        {
            var damaged = (byte[])whole.Clone();
            damaged[position] ^= 0x10;
            File.WriteAllBytes(file, damaged);
            var start = ends.LastOrDefault(e => e <= position);
            FluentActions.Invoking(() => Open()).Should().Throw<UpdateLogDamagedException>()
                .Where(e => e.File == file && e.Offset <= position && e.Offset >= start);
            File.ReadAllBytes(file).Should().Equal(damaged, "nothing was cut");
        }

        File.WriteAllBytes(file, whole);
        using var good = Open();
        good.Head!.Value.Sequence.Should().Be(4);
    }

    [Test]
    public void A_missing_or_damaged_file_is_an_error()
    {
        var states = new PublishedStates(1);
        using (var log = Start(states, new UpdateLogOptions { SegmentBytes = 1, CompactAutomatically = false }))
        {
            Append(log, states, 4);
            log.WriteSnapshot(states.Newest);
            Append(log, states, 2);
        }

        var updates = Files("updates-*");
        updates.Should().HaveCount(6);
        Missing(updates[1]).Where(e => e.File == updates[0]);
        Missing(updates[4]).Where(e => e.File == updates[3]);
        var snapshot = Files("snapshot-*")[^1];
        var bytes = File.ReadAllBytes(snapshot);
        File.WriteAllBytes(snapshot, bytes[..^1]);
        FluentActions.Invoking(() => Open()).Should().Throw<UpdateLogDamagedException>().Where(e => e.File == snapshot);
        File.Delete(snapshot);
        using (var older = Open()) PublishedStates.ShouldBeTheSame(older.HeadSnapshot(), states.Newest);

        FluentAssertions.Specialized.ExceptionAssertions<UpdateLogDamagedException> Missing(string file)
        {
            var content = File.ReadAllBytes(file);
            File.Delete(file);
            var thrown = FluentActions.Invoking(() => Open()).Should().Throw<UpdateLogDamagedException>();
            File.WriteAllBytes(file, content);
            return thrown;
        }
    }

    [Test]
    public void A_crash_at_any_point_of_a_compaction_or_a_start_leaves_a_log()
    {
        var states = new PublishedStates(1);
        var options = new UpdateLogOptions { SegmentBytes = 1, CompactAutomatically = false, KeepUpdates = 1, SnapshotInterval = 5 };
        using (var log = Start(states, options))
        {
            Append(log, states, 3);
            log.WriteSnapshot(states.Newest);
            Append(log, states, 3);
        }

        // Files go in this order, so a crash leaves the rest.
        foreach (var file in Files("snapshot-*")[..1].Concat(Files("updates-*")[..3]))
        {
            File.Delete(file);
            File.WriteAllBytes(file + ".0123.tmp", [1, 2, 3]);
            Directory.CreateDirectory(Path.Combine(folder.Path, $"000009-{Guid.NewGuid():N}"));
            using var log = Open(options);
            log.OldestSequence.Should().Be(3);
            PublishedStates.ShouldBeTheSame(log.HeadSnapshot(), states.Newest);
            PublishedStates.ShouldBeTheSame(log.StateAt(4), states.States[4]);
            Files("*.tmp").Should().BeEmpty();
        }

        using var last = Open(options);
        last.Compact();
        last.OldestSequence.Should().Be(3);
        Append(last, states, 2);
        last.Compact();
        last.OldestSequence.Should().Be(3, "the new snapshot is that of the newest state, and one update is to be kept");
        Append(last, states, 1);
        last.Compact();
        last.OldestSequence.Should().Be(8);
        Files("*").Should().HaveCount(2);
    }

    [Test]
    public void A_snapshot_of_another_run_or_a_later_state_starts_anew()
    {
        var states = new PublishedStates(1);
        using var log = Start(states, new UpdateLogOptions { CompactAutomatically = false });
        Append(log, states, 3);
        log.WriteSnapshot(states.Newest);
        log.Invoking(l => l.WriteSnapshot(states.States[1])).Should().Throw<UpdateConflictException>();

        for (var i = 0; i < 4; i++) states.Next().Dispose();
        log.WriteSnapshot(states.Newest);
        log.OldestSequence.Should().Be(7);
        Append(log, states, 1);
        Reopened(log).Should().Be(log.Head).And.Be(new NewestState(states.RunId, 8, states.Newest.StateDigest));

        using var restarted = Open();
        var other = new PublishedStates(2, ModelLayout.Of([new("other", CoordinateKind.Parameter, DType.Float32, [5])]));
        restarted.WriteSnapshot(other.Newest);
        restarted.Append(other.Next()).Should().BeTrue();
        restarted.ReadFrom(states.RunId, 8).Snapshot!.RunId.Should().Be(other.RunId);
        restarted.Compact();
        Directory.GetDirectories(folder.Path).Should().ContainSingle().Which.Should().EndWith($"{other.RunId:N}");
        Reopened(restarted).Should().Be(restarted.Head);
    }

    [Test]
    public void ReadFrom_gives_single_updates_a_merged_one_or_a_snapshot_whichever_is_smallest()
    {
        var states = new PublishedStates(1);
        using var log = Start(states, new UpdateLogOptions { CompactAutomatically = false });
        log.ReadFrom(states.RunId, 0).Messages.Should().BeEmpty();
        Append(log, states, 1);
        log.ReadFrom(states.RunId, 0).Should().Match<UpdateBatch>(b => b.Snapshot == null && b.Messages.Count == 1 && b.NewestSequence == 1);

        // The same two coordinates again and again: merged they are two, one by one they are many.
        for (var i = 0; i < 30; i++)
        {
            var values = Values(states.Newest);
            values[0][0]++;
            values[0][4]--;
            using var update = states.Take(new ModelSnapshot(states.Newest.Layout, values, states.RunId, states.Newest.Sequence + 1));
            log.Append(update);
        }

        var merged = log.ReadFrom(states.RunId, 0);
        merged.Snapshot.Should().BeNull();
        merged.Messages.Should().ContainSingle();
        UpdateCodec.ReadHeader(merged.Messages[0].Bytes.Span).Should().Match<UpdateHeader>(h => h.BaseSequence == 0 && h.Sequence == 31 && !h.IsRelative);
        ShouldLeadToTheNewest(states, states.States[0], merged);
        log.ReadFrom(states.RunId, 0).Messages[0].Should().Be(merged.Messages[0], "it is made once");

        log.WriteSnapshot(states.Newest);
        Append(log, states, 2);
        var rest = log.ReadFrom(Guid.Empty, 0);
        rest.Snapshot!.Sequence.Should().Be(31);
        rest.NewestSequence.Should().Be(33);
        ShouldLeadToTheNewest(states, states.States[0], rest);
        log.ReadFrom(states.RunId, 34).Snapshot.Should().NotBeNull("the log does not know that state");
        log.ReadFrom(states.RunId, -1).Snapshot.Should().NotBeNull();
    }

    [Test]
    public void ReadFrom_gives_the_snapshot_where_nearly_everything_has_changed()
    {
        var states = new PublishedStates(1, ModelLayout.Of([new("weight", CoordinateKind.Parameter, DType.Float32, [20_000])]));
        using var log = Start(states, new UpdateLogOptions { CompactAutomatically = false });
        Append(log, states, 20, coordinates: 10_000);
        log.ReadFrom(states.RunId, 0).Snapshot.Should().BeNull("there is no newer one");
        log.WriteSnapshot(states.Newest);
        Append(log, states, 2);
        var batch = log.ReadFrom(states.RunId, 0);
        batch.Snapshot!.Sequence.Should().Be(20);
        batch.Messages.Should().HaveCountLessThanOrEqualTo(2);
        ShouldLeadToTheNewest(states, states.States[0], batch);
    }

    [Test]
    public void A_merged_update_leads_to_the_same_state_as_one_by_one()
    {
        for (var seed = 0; seed < 30; seed++)
        {
            var states = new PublishedStates(seed);
            var random = new Random(seed);
            using var transport = new InMemoryUpdateTransport();
            using var log = Start(states, subfolder: seed.ToString(System.Globalization.CultureInfo.InvariantCulture));
            for (var i = random.Next(2, 12); i > 0; i--)
            {
                using var update = states.Next(random.Next(0, 30));
                log.Append(update);
            }

            var from = random.Next((int)states.Newest.Sequence - 1);
            var messages = log.ReadFrom(states.RunId, from).Messages;
            var merge = new MergedUpdate(states.Newest.Layout);
            for (var s = from; s < states.Newest.Sequence; s++)
            {
                using var single = ModelUpdate.Between(states.States[s], states.States[s + 1], s + 1);
                merge.TryAdd(new UpdateMessage(Codec.Encode(single), default)).Should().BeTrue();
            }

            using var head = new PublishedHead();
            head.Start(states.Newest);
            using var merged = merge.Build(from, head.Required);
            ShouldLeadToTheNewest(states, states.States[from], new UpdateBatch { Messages = [new UpdateMessage(Codec.Encode(merged), default)] });
            ShouldLeadToTheNewest(states, states.States[from], new UpdateBatch { Messages = messages });
        }
    }

    [Test]
    public void RollBackTo_restores_an_older_state_exactly_as_a_new_update()
    {
        var states = new PublishedStates(1);
        using var log = Start(states);
        Append(log, states, 10);
        using var update = log.RollBackTo(4);
        update.Sequence.Should().Be(11);
        update.StateDigest.Should().Be(states.States[4].StateDigest);
        Values(log.HeadSnapshot()).Should().BeEquivalentTo(Values(states.States[4]), o => o.WithStrictOrdering());

        using var replica = new PublishedHead();
        replica.Start(states.States[10]);
        Apply(replica, log.ReadFrom(states.RunId, 10));
        replica.Required.Digest.Should().Be(states.States[4].StateDigest);
        states.Take(new ModelSnapshot(states.Newest.Layout, Values(states.States[4]), states.RunId, 11)).Dispose();
        Append(log, states, 2);
        log.Invoking(l => l.RollBackTo(14)).Should().Throw<ArgumentOutOfRangeException>();
        using var nothing = log.RollBackTo(13);
        nothing.Count.Should().Be(0, "it is the newest state");
        Reopened(log).Should().Be(log.Head);
    }

    [Test]
    public void Any_history_of_appending_compacting_reopening_and_rolling_back_keeps_every_promised_state()
    {
        for (var seed = 0; seed < 12; seed++) RandomHistory(seed);
    }

    [Test]
    public void What_is_older_than_the_age_kept_is_removed_once_a_snapshot_covers_it()
    {
        var clock = new ManualClock();
        var states = new PublishedStates(1);
        using var log = UpdateLog.Open(
            folder.Path,
            new UpdateLogOptions { KeepAge = TimeSpan.FromHours(1), KeepUpdates = null, KeepBytes = null, SnapshotInterval = 10, CompactAutomatically = false },
            timeProvider: clock);
        log.WriteSnapshot(states.Newest);
        for (var i = 0; i < 6; i++)
        {
            Append(log, states, 5);
            clock.Now += TimeSpan.FromMinutes(20);
            log.Compact();
        }

        log.OldestSequence.Should().Be(10, "the update 11 is 80 minutes old, but the next snapshot, of 20, leads over younger ones too");
        clock.Now += TimeSpan.FromDays(1);
        log.Compact();
        log.OldestSequence.Should().Be(30);
        log.ReadFrom(states.RunId, 25).Snapshot.Should().NotBeNull();
    }

    [Test]
    public async Task Compaction_in_the_background_keeps_the_log_short_while_it_is_appended_to_and_read()
    {
        var states = new PublishedStates(1);
        using var log = Start(states, new UpdateLogOptions { FlushOnAppend = false, SnapshotInterval = 20, KeepUpdates = 50, SegmentBytes = 2000 });
        using var done = new CancellationTokenSource();
        var reader = Task.Run(() =>
        {
            var random = new Random(1);
            var reads = 0;
            while (!done.IsCancellationRequested || reads == 0)
            {
                log.ReadFrom(states.RunId, random.Next(1000)).Should().NotBeNull();
                var oldest = log.OldestSequence!.Value;
                try
                {
                    log.StateAt(oldest).Sequence.Should().Be(oldest);
                }
                catch (ArgumentOutOfRangeException)
                {
                    log.OldestSequence.Should().BeGreaterThan(oldest, "it was removed meanwhile");
                }

                reads++;
            }
        });
        Append(log, states, 1000);
        await done.CancelAsync();
        await reader;
        log.CompactionError.Should().BeNull();
        for (var i = 0; i < 10; i++)
        {
            log.Compact();
            Append(log, states, 20);
        }

        (1200 - log.OldestSequence!.Value).Should().BeInRange(50, 100);
        Reopened(log).Should().Be(log.Head);
    }

    [Test]
    public void An_error_in_the_background_is_told_and_appending_goes_on()
    {
        var states = new PublishedStates(1);
        var log = Start(states, new UpdateLogOptions { SnapshotInterval = 2, KeepUpdates = 2 });
        Directory.CreateDirectory(Path.Combine(Directory.GetDirectories(folder.Path).Single(), $"snapshot-{2:D19}.safetensors"));
        Append(log, states, 2);
        SpinWait.SpinUntil(() => log.CompactionError is not null, Patience.Limit).Should().BeTrue();
        Directory.Delete(Path.Combine(Directory.GetDirectories(folder.Path).Single(), $"snapshot-{2:D19}.safetensors"));
        SpinWait.SpinUntil(
            () =>
            {
                Append(log, states, 1);
                return log.CompactionError is null;
            },
            Patience.Limit).Should().BeTrue("one went well");
        Reopened(log).Should().Be(log.Head);
    }

    [Test]
    public void A_file_that_cannot_be_removed_keeps_those_after_it_until_it_can()
    {
        var states = new PublishedStates(1);
        using (var log = Start(states, new UpdateLogOptions { FlushOnAppend = false, SegmentBytes = 1, SnapshotInterval = 3, KeepUpdates = 1, CompactAutomatically = false }))
        {
            Append(log, states, 4);
            log.WriteSnapshot(states.Newest);
            Append(log, states, 2);
            var oldest = Files("snapshot-*")[0];
            File.Delete(oldest);
            Directory.CreateDirectory(oldest);
            log.Invoking(l => l.Compact()).Should().Throw<UnauthorizedAccessException>();
            Files("updates-*").Should().HaveCount(6, "what is left must be a log");
            Append(log, states, 4);
            log.Invoking(l => l.Compact()).Should().Throw<UnauthorizedAccessException>();
            Directory.Delete(oldest);
            File.WriteAllBytes(oldest, []);
            log.Compact();
            log.OldestSequence.Should().Be(4);
            Files("updates-*").Should().HaveCount(6);
        }

        using var reopened = Open();
        PublishedStates.ShouldBeTheSame(reopened.StateAt(4), states.States[4]);
        PublishedStates.ShouldBeTheSame(reopened.HeadSnapshot(), states.Newest);
    }

    [Test]
    public async Task A_reader_that_saw_updates_which_the_disk_then_lost_reads_those_that_take_their_place()
    {
        var states = new PublishedStates(1);
        var source = new DirectoryUpdateSource(folder.Path, TimeSpan.FromMilliseconds(1));
        long length;
        using (var log = Start(states))
        {
            Append(log, states, 2);
            length = new FileInfo(Segment()).Length;
            Append(log, states, 1);
            (await source.ReceiveAsync(states.RunId, 0)).NewestSequence.Should().Be(3);
        }

        using (var file = File.OpenWrite(Segment())) file.SetLength(length);
        using var restarted = Open();
        (await source.ReceiveAsync(states.RunId, 3)).Snapshot.Should().NotBeNull("that state is not there any more");
        states.Take(new ModelSnapshot(states.Newest.Layout, Values(states.States[1]), states.RunId, 4)).Dispose();
        restarted.WriteSnapshot(states.Newest);
        Append(restarted, states, 3);
        ShouldLeadToTheNewest(states, states.States[0], await source.ReceiveAsync(states.RunId, 2));
    }

    private void RandomHistory(int seed)
    {
        var random = new Random(seed);
        var name = $"history{seed}";
        var states = new PublishedStates(seed, sequence: random.Next(3));
        var options = new UpdateLogOptions
        {
            FlushOnAppend = random.Next(8) == 0,
            SegmentBytes = random.Next(3) == 0 ? 1 : 1 << random.Next(8, 16),
            SnapshotInterval = random.Next(1, 20),
            KeepUpdates = random.Next(3) == 0 ? null : random.Next(1, 30),
            KeepBytes = random.Next(3) == 0 ? random.Next(1, 10_000) : null,
            CompactAutomatically = random.Next(2) == 0,
        };
        var log = Start(states, options, name);
        try
        {
            for (var i = 0; i < 40; i++)
            {
                switch (random.Next(10))
                {
                    case 0:
                        log.Compact();
                        break;
                    case 1:
                        log.Dispose();
                        log = Open(options, name);
                        break;
                    case 2:
                        log.WriteSnapshot(states.Newest);
                        break;
                    case 3:
                        // A compaction in the background may remove what was still there a moment ago.
                        if (options.CompactAutomatically) break;
                        var target = random.NextInt64(log.OldestSequence!.Value, states.Newest.Sequence + 1);
                        using (log.RollBackTo(target)) states.Take(new ModelSnapshot(states.Newest.Layout, Values(states.States[target]), states.RunId, states.Newest.Sequence + 1)).Dispose();
                        break;
                    case 4:
                        var from = random.NextInt64(-1, states.Newest.Sequence + 1);
                        ShouldLeadToTheNewest(states, states.States.GetValueOrDefault(from) ?? states.States.Values.First(), log.ReadFrom(from < 0 ? Guid.NewGuid() : states.RunId, from));
                        break;
                    default:
                        Append(log, states, random.Next(1, 5), random.Next(1, 40));
                        break;
                }

                log.Head.Should().Be(new NewestState(states.RunId, states.Newest.Sequence, states.Newest.StateDigest));
            }

            log.Compact();
            var oldest = log.OldestSequence!.Value;
            for (var s = oldest; s <= states.Newest.Sequence; s++) PublishedStates.ShouldBeTheSame(log.StateAt(s), states.States[s]);
            if (options.KeepUpdates is { } count && options.KeepBytes is null && oldest > states.States.Keys.Min()) (states.Newest.Sequence - oldest).Should().BeGreaterThanOrEqualTo(count);
        }
        finally
        {
            log.Dispose();
        }
    }

    private static void ShouldLeadToTheNewest(PublishedStates states, ModelSnapshot from, UpdateBatch batch)
    {
        using var replica = new PublishedHead();
        replica.Start(from);
        Apply(replica, batch);
        PublishedStates.ShouldBeTheSame(replica.Required.CreateSnapshot(), states.Newest);
    }

    private static void Apply(PublishedHead replica, UpdateBatch batch)
    {
        if (batch.Snapshot is not null) replica.Start(batch.Snapshot);
        foreach (var message in batch.Messages)
        {
            using var update = Codec.Decode(message.Bytes.Span, replica.Required);
            replica.Required.Write(update, replica.Required.DigestAfter(update));
        }
    }

    private static void Append(UpdateLog log, PublishedStates states, int count, int coordinates = 5)
    {
        for (var i = 0; i < count; i++)
        {
            using var update = states.Next(coordinates);
            log.Append(update).Should().BeTrue();
        }
    }

    private static byte[][] Values(ModelSnapshot snapshot) => [.. snapshot.Layout.Entries.Select((_, i) => snapshot.Values(i).ToArray())];

    private UpdateLog Start(PublishedStates states, UpdateLogOptions? options = null, string subfolder = "")
    {
        var log = Open(options, subfolder);
        log.WriteSnapshot(states.Newest);
        return log;
    }

    private UpdateLog Open(UpdateLogOptions? options = null, string subfolder = "") =>
        UpdateLog.Open(Path.Combine(folder.Path, subfolder), options ?? new UpdateLogOptions { FlushOnAppend = false });

    private NewestState? Reopened(UpdateLog log)
    {
        log.Dispose();
        using var reopened = Open();
        return reopened.Head;
    }

    private string Segment() => Files("updates-*").Single();

    private string[] Files(string pattern) =>
        [.. Directory.GetFiles(folder.Path, pattern, SearchOption.AllDirectories).Where(f => !f.EndsWith("writer.lock", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    private sealed class ManualClock : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2030, 1, 1, 0, 0, 0, TimeSpan.Zero);

        public override DateTimeOffset GetUtcNow() => Now;
    }
}
