using ContinuousDL.CrashTest;
using ContinuousDL.History;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests.Samples;

namespace ContinuousDL.Tests.Storage;

/// <summary>What the disk did not take is never said to be on it.</summary>
[Category("Native")]
public class FailingDiskTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void MakeFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void Append_fails_where_the_update_cannot_be_flushed([Values(FailingDisk.Eio, FailingDisk.Enospc, FailingDisk.Edquot)] int error)
    {
        var lines = FailingDisk.Run(["updates", folder.Path, "10"], $"fsync:.log:{error}:1");

        lines[..10].Should().OnlyContain(line => line.Contains("Exception: "));
        lines[0].Should().Contain(".log' could not be flushed to disk");
    }

    [Test]
    public void After_a_flush_that_failed_nothing_is_appended_until_the_log_is_opened_again()
    {
        // The disk fails once; a later flush of the same file would say that all is well.
        var lines = FailingDisk.Run(["updates", folder.Path, "10"], $"fsync:.log:{FailingDisk.Eio}:4:1");

        lines[..3].Should().OnlyContain(line => line == "done");
        lines[3].Should().StartWith("FlushFailedException");
        lines[4..10].Should().OnlyContain(line => line.Contains("earlier write to the log failed"));
        using var log = UpdateLog.Open(CrashModel.Updates(folder.Path));
        log.Head!.Value.Sequence.Should().BeInRange(3, 4, "what had failed is there or not, and all before it is");
    }

    [Test]
    public void A_folder_whose_names_cannot_be_flushed_is_an_error()
    {
        // Before: the snapshot, the folder for it, and the file of the update.
        var line = FailingDisk.Run(["updates", folder.Path, "1"], $"fsync:updates/000001-:{FailingDisk.Enospc}:4")[0];
        line.Should().StartWith("FlushFailedException").And.NotContain(".log'");
    }

    [Test]
    public void Samples_that_could_not_be_flushed_once_are_not_said_to_be_flushed_later()
    {
        // The first one is of the file when it is made.
        var lines = FailingDisk.Run(["samples", folder.Path, "5"], $"fsync:.samples:{FailingDisk.Eio}:3:1");

        lines[0].Should().Be("done");
        lines[1].Should().StartWith("FlushFailedException");
        lines[2..].Should().OnlyContain(line => line.StartsWith("SampleHistoryException: What the history has on disk is not known"));
        using var history = new MappedSampleHistory(CrashModel.Samples(folder.Path));
        history.Count.Should().BeGreaterThanOrEqualTo(4);
        history.Verify().Should().BeNull();
    }

    [TestCase("checkpoints", "trainer.checkpoint")]
    [TestCase("snapshots", "snapshot.safetensors")]
    public void A_file_that_could_not_be_flushed_leaves_the_earlier_one_and_nothing_else(string what, string name)
    {
        var lines = FailingDisk.Run([what, folder.Path, "3"], $"fsync:{name}:{FailingDisk.Eio}:2");

        lines[0].Should().Be("done");
        lines[1..].Should().HaveCount(2).And.OnlyContain(line => line.StartsWith("FlushFailedException") && line.Contains(name));
        Directory.GetFileSystemEntries(folder.Path).Select(Path.GetFileName).Should().Equal(name);
    }

    [Test]
    public void An_update_for_which_the_disk_has_no_room_leaves_the_log_as_it_was()
    {
        var lines = FailingDisk.Run(["updates", folder.Path, "10"], room: $"{folder.Path}:{SnapshotBytes() + 500}");

        lines.Should().Contain("done");
        lines[9].Should().StartWith("UpdateGapException", "the log goes on, and lacks the update for which there was no room");
        lines.Should().ContainSingle(line => line.StartsWith("IOException"));
        using var log = UpdateLog.Open(CrashModel.Updates(folder.Path));
        (log.BytesCut, log.Head!.Value.Sequence).Should().Be((0, lines.Count(line => line == "done")));
    }

    [Test]
    public void A_compaction_without_room_never_takes_the_room_of_an_update()
    {
        var lines = FailingDisk.Run(["compactions", folder.Path, "10"], room: $"{folder.Path}:{SnapshotBytes() * 19 / 10}");

        lines[..10].Should().OnlyContain(line => line == "done");
        lines[10].Should().Be("compaction IOException");
        var run = Directory.GetDirectories(CrashModel.Updates(folder.Path)).Single();
        Directory.GetFiles(run, "*.tmp").Should().BeEmpty();
        Directory.GetFiles(run, "updates-*").Should().HaveCountLessThanOrEqualTo(2, "not each try begins a file");
        using var log = UpdateLog.Open(CrashModel.Updates(folder.Path));
        log.Head!.Value.Sequence.Should().Be(10);
    }

    [TestCase(FailingDisk.Erofs, "mounted read-only")]
    [TestCase(FailingDisk.Eacces, "may not write there")]
    public void A_directory_that_cannot_be_written_to_is_not_said_to_be_in_use(int error, string reason)
    {
        var lines = FailingDisk.Run(["open", folder.Path], $"open:writer.lock:{error}:1;open:samples/lock:{error}:1");

        lines.Should().HaveCount(2).And.OnlyContain(line => line.StartsWith("IOException: The directory") && line.Contains(reason));
    }

    [Test]
    public void A_file_system_without_locks_is_refused()
    {
        var lines = FailingDisk.Run(["open", folder.Path], $"flock:writer.lock:{FailingDisk.Enotsup}:1;flock:samples/lock:{FailingDisk.Enotsup}:1");

        lines.Should().HaveCount(2).And.OnlyContain(line => line.StartsWith("IOException") && line.Contains("can't be locked"));
    }

    [Test]
    public void A_second_writer_is_refused_also_where_the_framework_is_told_not_to_lock()
    {
        using (UpdateLog.Open(CrashModel.Updates(folder.Path)))
        using (new MappedSampleHistory(CrashModel.Samples(folder.Path)))
        {
            var lines = FailingDisk.Start(["open", folder.Path], ("DOTNET_SYSTEM_IO_DISABLEFILELOCKING", "1"));
            lines.Should().HaveCount(2);
            lines[0].Should().StartWith("UpdateLogInUseException");
            lines[1].Should().StartWith("SampleHistoryException").And.Contain("in use");
        }

        FailingDisk.Start(["open", folder.Path], ("DOTNET_SYSTEM_IO_DISABLEFILELOCKING", "1")).Should().Equal("done", "done");
    }

    private static long SnapshotBytes()
    {
        using var model = CrashModel.Make();
        using var bytes = new MemoryStream();
        ModelSnapshot.Of(model).Save(bytes);
        return bytes.Length;
    }
}
