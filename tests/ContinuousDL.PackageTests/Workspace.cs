using System.Reflection;

namespace ContinuousDL.PackageTests;

/// <summary>
/// Packs the libraries once for all tests, with a version of their own, into a folder outside the repository, and writes
/// projects there that reference them. Both the package cache and the repository's build output stay as they are.
/// </summary>
[SetUpFixture]
public sealed class Workspace
{
    /// <summary>Below the repository, because symbols name sources relative to it, the generated ones too.</summary>
    private static readonly string s_buildFolder = Path.Combine(RepositoryRoot, "artifacts", "package-tests", Guid.NewGuid().ToString("N"));

    /// <summary>Where the packed packages, the projects that use them and what these restore lie.</summary>
    internal static string Root { get; } = Path.Combine(Path.GetTempPath(), "ContinuousDL.PackageTests." + Guid.NewGuid().ToString("N"));

    internal static string RepositoryRoot => Metadata("RepositoryRoot");

    /// <summary>The machine's package cache, only read here.</summary>
    internal static string PackageCache => Metadata("PackageCache");

    internal static string TorchSharpVersion => Metadata("TorchSharpVersion");

    /// <summary>The library of TorchSharp that the packages correct, as it lies in a package and in the output folder of a build.</summary>
    internal static string NativeLibraryPath { get; } = Path.Combine("runtimes", "linux-x64", "native", "libLibTorchSharp.so");

    /// <summary>The library as TorchSharp ships it.</summary>
    internal static string OriginalLibrary => Path.Combine(PackageCache, "torchsharp", TorchSharpVersion, NativeLibraryPath);

    internal static string PackageVersion { get; } = $"0.1.0-test.{DateTime.UtcNow.Ticks}";

    internal static string PathOfPackage(string id, string extension) => Path.Combine(Root, "feed", $"{id}.{PackageVersion}.{extension}");

    [OneTimeSetUp]
    public void Pack()
    {
        Directory.CreateDirectory(Root);
        string[] settings =
        [
            "-c", "Release", "-o", Path.Combine(Root, "feed"), $"-p:Version={PackageVersion}", $"-p:ArtifactsPath={s_buildFolder}",
            "-p:RunAnalyzers=false", // The build of the repository runs them; they change nothing in a package.
        ];
        Dotnet.RunWithRestore(RepositoryRoot, ["pack", Path.Combine("src", "ContinuousDL.Cuda"), .. settings]);
        Dotnet.RunWithRestore(RepositoryRoot, ["pack", Path.Combine("src", "ContinuousDL.AspNetCore"), .. settings]);
        Dotnet.Run(RepositoryRoot, ["pack", Path.Combine("src", "ContinuousDL"), "--no-build", .. settings]);
        Dotnet.Run(RepositoryRoot, ["pack", Path.Combine("src", "ContinuousDL.Replication"), "--no-build", .. settings]);

        // What the projects would otherwise inherit from folders above.
        File.WriteAllText(Path.Combine(Root, "Directory.Build.props"), "<Project />");
        File.WriteAllText(Path.Combine(Root, "Directory.Build.targets"), "<Project />");
        File.WriteAllText(Path.Combine(Root, "Directory.Packages.props"), "<Project />");
        File.WriteAllText(
            Path.Combine(Root, "nuget.config"),
            """<configuration><packageSources><add key="ContinuousDL.PackageTests" value="feed" /></packageSources></configuration>""");
    }

    [OneTimeTearDown]
    public void Delete()
    {
        Directory.Delete(Root, recursive: true);
        if (Directory.Exists(s_buildFolder)) Directory.Delete(s_buildFolder, recursive: true);
    }

    /// <summary>Writes a console project that references packages.</summary>
    /// <param name="name">The project's name and folder.</param>
    /// <param name="packages">The packages, each as id and version.</param>
    /// <returns>The project's folder.</returns>
    internal static string CreateConsoleProject(string name, params (string Id, string Version)[] packages) => CreateConsoleProject(name, "", packages);

    /// <summary>Writes a console project that references packages.</summary>
    /// <param name="name">The project's name and folder. Its program is the one in the tests' folder of that name, otherwise that of the usual consumer.</param>
    /// <param name="properties">MSBuild properties of its own.</param>
    /// <param name="packages">The packages, each as id and version.</param>
    /// <returns>The project's folder.</returns>
    internal static string CreateConsoleProject(string name, string properties, params (string Id, string Version)[] packages)
    {
        var folder = Path.Combine(Root, name);
        Directory.CreateDirectory(folder);
        var references = packages.Select(package => $"""    <PackageReference Include="{package.Id}" Version="{package.Version}" />""");
        File.WriteAllText(
            Path.Combine(folder, name + ".csproj"),
            $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <Nullable>enable</Nullable>
                <ImplicitUsings>enable</ImplicitUsings>
                <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
                <NuGetAudit>false</NuGetAudit>
                <NoWarn>NU1603</NoWarn>
                {properties}
                <!-- The packed packages stay out of the machine's package cache; everything else comes from there. -->
                <RestorePackagesPath>{Path.Combine(Root, "packages")}</RestorePackagesPath>
                <RestoreFallbackFolders>{PackageCache}</RestoreFallbackFolders>
                <!-- libtorch for all platforms takes over 1 GB. -->
                <CreateHardLinksForCopyLocalIfPossible>true</CreateHardLinksForCopyLocalIfPossible>
                <CreateHardLinksForPublishFilesIfPossible>true</CreateHardLinksForPublishFilesIfPossible>
              </PropertyGroup>
              <ItemGroup>
            {string.Join('\n', references)}
              </ItemGroup>
            </Project>
            """);
        var program = Path.Combine(TestContext.CurrentContext.TestDirectory, name, "Program.cs");
        if (!File.Exists(program)) program = Path.Combine(TestContext.CurrentContext.TestDirectory, "Consumer", "Program.cs");
        File.Copy(program, Path.Combine(folder, "Program.cs"));
        return folder;
    }

    private static string Metadata(string key)
    {
        return typeof(Workspace).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;
    }
}
