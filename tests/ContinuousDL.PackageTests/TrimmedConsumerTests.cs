namespace ContinuousDL.PackageTests;

/// <summary>An application that is trimmed when it is published, which switches reflection in JSON off, saves and loads snapshots and follows updates as any other.</summary>
[Platform("Linux", Reason = "It publishes for the platform that the tests run on, which must be one whose runtime package they have.")]
[Category("Slow")]
public class TrimmedConsumerTests
{
    private string _output;
    private string _published;

    [OneTimeSetUp]
    public void Publish()
    {
        var folder = Workspace.CreateConsoleProject(
            "TrimmedConsumer",
            """
            <PublishTrimmed>true</PublishTrimmed>
                <TrimmerSingleWarn>false</TrimmerSingleWarn>
                <RuntimeIdentifier>linux-x64</RuntimeIdentifier>
                <InvariantGlobalization>true</InvariantGlobalization>
                <DisableTransitiveFrameworkReferenceDownloads>true</DisableTransitiveFrameworkReferenceDownloads>
                <!-- TorchSharp's own warning is none of the library's. -->
                <WarningsNotAsErrors>IL2070;IL2075</WarningsNotAsErrors>
            """,
            ("ContinuousDL", Workspace.PackageVersion),
            ("TorchSharp-cpu", Workspace.TorchSharpVersion));
        _published = Path.Combine(folder, "published");
        _output = Dotnet.RunWithRestore(folder, "publish", "-o", _published);
    }

    [Test]
    public void Trimming_warns_of_nothing_in_the_library()
    {
        _output.Should().NotMatchRegex(@"warning IL\d+: (Assembly ')?ContinuousDL");
    }

    [Test]
    public void Trimmed_program_saves_and_loads_snapshots_follows_updates_and_refuses_wrong_options()
    {
        var output = Dotnet.RunProgram(Path.Combine(_published, "TrimmedConsumer"));

        output.Should().Contain("refused: ProactiveTrainerOptions.BatchSize is 0");
        output.Should().Contain("reflection False, sequence 5, identical True");
    }
}
