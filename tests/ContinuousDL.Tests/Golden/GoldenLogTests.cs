using System.Globalization;
using System.Reflection;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Tests.Samples;

namespace ContinuousDL.Tests.Golden;

/// <summary>A log and its snapshots that version 0.1.0 wrote, before the replication package, are read to the last bit.</summary>
public class GoldenLogTests
{
    private static readonly Dictionary<long, ulong> Digests = File.ReadLines(Path.Combine(Root, "digests.txt")).Select(l => l.Split(' '))
        .ToDictionary(l => long.Parse(l[0], CultureInfo.InvariantCulture), l => ulong.Parse(l[1], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture));

    private TemporaryFolder folder = null!;

    [SetUp]
    public void CopyLog()
    {
        folder = new TemporaryFolder();
        var log = Path.Combine(Root, "log");
        foreach (var file in Directory.EnumerateFiles(log, "*", SearchOption.AllDirectories))
        {
            var copy = Path.Combine(folder.Path, Path.GetRelativePath(log, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }
    }

    [TearDown]
    public void RemoveCopy() => folder.Dispose();

    [Test]
    public void Every_state_of_the_log_is_the_one_that_was_written()
    {
        using var log = UpdateLog.Open(folder.Path, new UpdateLogOptions { CompactAutomatically = false });
        log.Head!.Value.Sequence.Should().Be(24);
        log.BytesCut.Should().Be(0);
        foreach (var (sequence, digest) in Digests) log.StateAt(sequence).StateDigest.Should().Be(digest, "of sequence {0}", sequence);
    }

    [Test]
    public async Task A_replica_follows_the_log_from_its_first_snapshot_and_from_the_updates_after_it()
    {
        using var replica = new MemoryReplica(ModelSnapshot.Load(Path.Combine(Root, "first.safetensors")));
        replica.Digest.Should().Be(Digests[0]);
        var source = new DirectoryUpdateSource(folder.Path);
        using var follower = new ReplicaFollower(replica, source);
        using var stopping = new CancellationTokenSource(Patience.Limit);
        var current = new TaskCompletionSource();
        follower.StatusChanged += (_, status) =>
        {
            if (status.State == ReplicaState.Current && status.Sequence == 24) current.TrySetResult();
        };
        var following = follower.RunAsync(stopping.Token);
        await Task.WhenAny(current.Task, following);
        replica.Sequence.Should().Be(24);
        replica.Digest.Should().Be(Digests[24]);
        replica.Verify().Should().BeTrue();
        await stopping.CancelAsync();
        await FluentActions.Awaiting(() => following).Should().ThrowAsync<OperationCanceledException>();
    }

    private static string Root => Path.Combine(
        typeof(GoldenLogTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "RepositoryRoot").Value!,
        "tests",
        "ContinuousDL.Tests",
        "Golden");
}
