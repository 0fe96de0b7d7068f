using System.Runtime.Versioning;
using ContinuousDL.History;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Tests.History;
using ContinuousDL.Tests.Samples;
using ContinuousDL.Tests.UpdateLogs;

namespace ContinuousDL.Tests.Storage;

/// <summary>Whatever else is in a folder stays there, and is in nobody's way.</summary>
public class ForeignFilesTests
{
    private static readonly UpdateLogOptions Options = new() { FlushOnAppend = false, SnapshotInterval = 2, KeepUpdates = 1, CompactAutomatically = false };
    private TemporaryFolder folder = null!;

    [SetUp]
    public void MakeFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public async Task A_log_touches_only_names_that_it_gives_itself()
    {
        var states = new PublishedStates(1);
        var log = Path.Combine(folder.Path, "log");
        using (var opened = UpdateLog.Open(log, Options)) opened.WriteSnapshot(states.Newest);
        var run = Directory.GetDirectories(log).Single();
        var elsewhere = folder.Write("elsewhere.tmp", [1]);
        string[] foreign =
        [
            Write(log, "other.tmp"), Write(log, "other/deep.tmp"), Write(run, "upload.tmp"), Write(run, "snapshot-7.safetensors"), Write(run, "updates-old.log"),
            Write(run, "snapshot-0000000000000000007.safetensors.part.tmp"), Write(run, "notes/deep.tmp"), Write(log, "000002-backup/updates-0000000000000000000.log"),
            Write(log, $"2-{Guid.NewGuid():N}/keep"),
        ];
        File.CreateSymbolicLink(Path.Combine(run, $"snapshot-{9:D19}.safetensors.{Guid.NewGuid():N}.tmp"), elsewhere);
        Directory.CreateSymbolicLink(Path.Combine(log, "link"), folder.Path);
        var own = Write(run, $"snapshot-{7:D19}.safetensors.{Guid.NewGuid():N}.tmp");

        using (var opened = UpdateLog.Open(log, Options))
        {
            Append(opened, states, 5);
            opened.Compact();
            (await new DirectoryUpdateSource(log).ReceiveAsync(states.RunId, 0)).NewestSequence.Should().Be(5);
            var other = new PublishedStates(2);
            opened.WriteSnapshot(other.Newest);
            opened.Compact();
        }

        foreign.Should().OnlyContain(f => File.Exists(f));
        File.Exists(elsewhere).Should().BeTrue();
        File.Exists(own).Should().BeFalse();
        Directory.GetFiles(run, "updates-0*").Should().BeEmpty("the run is over, and was removed but for what is not the log's");
        using var reopened = UpdateLog.Open(log, Options);
        reopened.Head!.Value.RunId.Should().NotBe(states.RunId);
    }

    [Test]
    [Platform("Unix")]
    [UnsupportedOSPlatform("windows")]
    public void A_folder_that_cannot_be_read_is_in_nobodys_way()
    {
        var states = new PublishedStates(1);
        var lost = Directory.CreateDirectory(Path.Combine(folder.Path, "lost+found"));
        File.SetUnixFileMode(lost.FullName, UnixFileMode.None);
        using (var log = UpdateLog.Open(folder.Path, Options))
        {
            log.WriteSnapshot(states.Newest);
            Append(log, states, 5);
            log.Compact();
        }

        using var reopened = UpdateLog.Open(folder.Path, Options);
        reopened.Head!.Value.Sequence.Should().Be(5);
        File.SetUnixFileMode(lost.FullName, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    [Test]
    public void A_history_touches_only_names_that_it_gives_itself()
    {
        using (var history = new MappedSampleHistory(folder.Path)) HistorySamples.AppendNumbers(history, 0, 3);
        string[] foreign = [Write(folder.Path, "other.new"), Write(folder.Path, "backup.samples"), Write(folder.Path, "1.samples.new")];
        var own = Write(folder.Path, $"{3:D20}.samples.new");

        using (var history = new MappedSampleHistory(folder.Path, new() { Capacity = 2, SegmentBytes = 40 }))
        {
            for (var i = 3; i < 30; i += 3) HistorySamples.AppendNumbers(history, i, 3);
        }

        foreign.Should().OnlyContain(f => File.Exists(f));
        File.Exists(own).Should().BeFalse();
    }

    private static void Append(UpdateLog log, PublishedStates states, int count)
    {
        for (var i = 0; i < count; i++)
        {
            using var update = states.Next();
            log.Append(update);
        }
    }

    private static string Write(string directory, string name)
    {
        var path = Path.Combine(directory, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, [1, 2, 3]);
        return path;
    }
}
