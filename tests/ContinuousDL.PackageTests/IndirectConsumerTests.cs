namespace ContinuousDL.PackageTests;

/// <summary>A project that reaches the package through another one gets the corrected library too, written only when it must be.</summary>
[Category("Slow")]
public class IndirectConsumerTests
{
    private string _folder;

    private string BuiltLibrary => Path.Combine(_folder, "bin", "Debug", "net10.0", Workspace.NativeLibraryPath);

    private string CopyFolder => Path.Combine(_folder, "obj", "Debug", "net10.0", "ContinuousDL");

    [OneTimeSetUp]
    public void Build()
    {
        _folder = Workspace.CreateConsoleProject("IndirectConsumer", ("ContinuousDL.Cuda", Workspace.PackageVersion));
        Dotnet.RunWithRestore(_folder, "build");
    }

    [Test]
    public void Build_takes_the_copy()
    {
        var copy = Directory.GetFiles(CopyFolder, "*", SearchOption.AllDirectories).Should().ContainSingle().Subject;

        var built = File.ReadAllBytes(BuiltLibrary);
        built.AsSpan().SequenceEqual(File.ReadAllBytes(copy)).Should().BeTrue();
        built.AsSpan().SequenceEqual(File.ReadAllBytes(Workspace.OriginalLibrary)).Should().BeFalse();
    }

    [Test]
    public void Second_build_writes_no_copy()
    {
        var copy = Directory.GetFiles(CopyFolder, "*", SearchOption.AllDirectories).Should().ContainSingle().Subject;
        var times = (File.GetLastWriteTimeUtc(copy), File.GetLastWriteTimeUtc(BuiltLibrary));

        Dotnet.Run(_folder, "build", "--no-restore");

        (File.GetLastWriteTimeUtc(copy), File.GetLastWriteTimeUtc(BuiltLibrary)).Should().Be(times);
    }

    [Test]
    public void Clean_deletes_the_copy_and_a_build_brings_it_back()
    {
        Dotnet.Run(_folder, "clean");
        Directory.GetFiles(CopyFolder, "*", SearchOption.AllDirectories).Should().BeEmpty();
        File.Exists(BuiltLibrary).Should().BeFalse();

        Dotnet.Run(_folder, "build", "--no-restore");
        Directory.GetFiles(CopyFolder, "*", SearchOption.AllDirectories).Should().ContainSingle();
        File.Exists(BuiltLibrary).Should().BeTrue();
    }
}
