namespace ContinuousDL.PackageTests;

/// <summary>A process that references the replication package alone follows a trainer, and has nothing of TorchSharp.</summary>
[Category("Slow")]
public class ReplicaConsumerTests
{
    private string _published;
    private string _trainer;

    [OneTimeSetUp]
    public void Publish()
    {
        var folder = Workspace.CreateConsoleProject("ReplicaConsumer", ("ContinuousDL.Replication", Workspace.PackageVersion));
        _published = Path.Combine(folder, "published");
        Dotnet.RunWithRestore(folder, "publish", "-o", _published);
        _trainer = Workspace.CreateConsoleProject(
            "PublishingTrainer", ("ContinuousDL", Workspace.PackageVersion), ("TorchSharp-cpu", Workspace.TorchSharpVersion));
        Dotnet.RunWithRestore(_trainer, "build");
    }

    [Test]
    public void Output_has_neither_TorchSharp_nor_libtorch()
    {
        var files = Directory.GetFiles(_published, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(_published, f)).ToList();
        files.Should().Contain("ContinuousDL.Replication.dll");
        files.Should().NotContain(f => f.Contains("torch", StringComparison.OrdinalIgnoreCase));
        files.Should().NotContain("ContinuousDL.dll");
        files.Sum(f => new FileInfo(Path.Combine(_published, f)).Length).Should().BeLessThan(5_000_000);
    }

    [Test]
    public void It_follows_a_trainer_to_the_same_digest()
    {
        var updates = Path.Combine(Workspace.Root, "updates");
        var trained = Dotnet.Run(_trainer, "run", "--no-build", "--", updates).Trim();
        trained.Should().MatchRegex("^sequence 20, digest [0-9a-f]{16}$");

        var followed = Dotnet.Run(_published, "ReplicaConsumer.dll", updates, "20").Trim();

        followed.Should().Be($"{trained}, verified True, 67 weights");
    }
}
