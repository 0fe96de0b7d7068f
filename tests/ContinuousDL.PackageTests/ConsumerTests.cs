using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Text.Json;

namespace ContinuousDL.PackageTests;

/// <summary>A project outside the repository that references the packed package and TorchSharp-cpu works as it is.</summary>
[Category("Slow")]
public class ConsumerTests
{
    private const string ProgramOutput = @"(?m)^loss \d+(\.\d+)?, \d+ coordinates$";

    private string _folder;
    private JsonElement _resolvedByDefault;
    private JsonElement _resolvedOptedOut;

    private string BuiltLibrary => Path.Combine(_folder, "bin", "Debug", "net10.0", Workspace.NativeLibraryPath);

    [OneTimeSetUp]
    public void Build()
    {
        _folder = Workspace.CreateConsoleProject(
            "Consumer", ("ContinuousDL", Workspace.PackageVersion), ("TorchSharp-cpu", Workspace.TorchSharpVersion));
        Dotnet.RunWithRestore(_folder, "build");
        _resolvedByDefault = ResolveLibrary();
        _resolvedOptedOut = ResolveLibrary("-p:ContinuousDLFixTorchSharpForOlderLinux=false");
    }

    [Test]
    public void Run_of_a_built_project_trains_the_model()
    {
        Dotnet.Run(_folder, "run", "--no-build").Should().MatchRegex(ProgramOutput);
    }

    [Test]
    public void Run_of_a_project_published_for_this_platform_trains_the_model()
    {
        var target = Path.Combine(_folder, "published");

        Dotnet.RunWithRestore(_folder, "publish", "-r", RuntimeInformation.RuntimeIdentifier, "--self-contained", "false", "-o", target);

        Dotnet.Run(target, "Consumer.dll").Should().MatchRegex(ProgramOutput);
    }

    [Test]
    public void Build_marks_one_version_of_the_library_weak_and_changes_nothing_else()
    {
        var original = File.ReadAllBytes(Workspace.OriginalLibrary);
        var built = File.ReadAllBytes(BuiltLibrary);

        built.Length.Should().Be(original.Length);
        var changed = Enumerable.Range(0, original.Length).Where(i => original[i] != built[i]).ToList();
        changed.Should().ContainSingle();
        original[changed[0]].Should().Be(0);
        built[changed[0]].Should().Be(2);
    }

    [Test]
    [Platform(Exclude = "Win", Reason = "Windows keeps access rights by folder.")]
    [UnsupportedOSPlatform("windows")]
    public void Build_keeps_the_access_rights_of_the_library()
    {
        File.GetUnixFileMode(BuiltLibrary).Should().Be(File.GetUnixFileMode(Workspace.OriginalLibrary) | UnixFileMode.UserWrite);
    }

    [Test]
    public void Build_leaves_the_package_cache_as_it_was()
    {
        var version = Workspace.TorchSharpVersion;
        var package = Path.Combine(Workspace.PackageCache, "torchsharp", version, $"torchsharp.{version}.nupkg");
        using var archive = ZipFile.OpenRead(package);
        using var packed = archive.GetEntry(Workspace.NativeLibraryPath.Replace('\\', '/'))!.Open();
        using var bytes = new MemoryStream();
        packed.CopyTo(bytes);

        File.ReadAllBytes(Workspace.OriginalLibrary).AsSpan().SequenceEqual(bytes.ToArray()).Should().BeTrue();
    }

    [Test]
    public void Opting_out_leaves_the_library_of_the_package_in_place()
    {
        Path.GetFullPath(_resolvedOptedOut.GetProperty("FullPath").GetString()!).Should().Be(Path.GetFullPath(Workspace.OriginalLibrary));
    }

    [Test]
    public void Copy_stands_for_the_library_in_everything_but_its_path()
    {
        _resolvedByDefault.GetProperty("FullPath").GetString().Should().StartWith(Path.Combine(_folder, "obj"));
        string[] names =
            ["NuGetPackageId", "NuGetPackageVersion", "PathInPackage", "DestinationSubPath", "AssetType", "CopyLocal", "RuntimeIdentifier"];
        foreach (var name in names)
        {
            _resolvedByDefault.GetProperty(name).GetString().Should().Be(_resolvedOptedOut.GetProperty(name).GetString(), "of {0}", name);
        }
    }

    private JsonElement ResolveLibrary(params string[] arguments)
    {
        var output = Dotnet.Run(_folder, ["msbuild", "-t:ResolvePackageAssets", "-getItem:RuntimeTargetsCopyLocalItems", .. arguments]);
        var library = Path.GetFileName(Workspace.NativeLibraryPath);
        return JsonDocument.Parse(output).RootElement.GetProperty("Items").GetProperty("RuntimeTargetsCopyLocalItems").EnumerateArray()
            .Single(item => Path.GetFileName(item.GetProperty("FullPath").GetString()) == library);
    }
}
