using System.Text.Json;

namespace ContinuousDL.PackageTests;

/// <summary>One property, <c>TorchBackend</c>, picks the TorchSharp backend of tests, samples and benchmarks.</summary>
[Category("Slow")]
public class TorchBackendTests
{
    private static readonly string[] Projects =
    [
        "tests/ContinuousDL.Tests", "tests/ContinuousDL.Cuda.Tests", "tests/ContinuousDL.CrashTest", "benchmarks/ContinuousDL.Benchmarks",
        "samples/Embedding", "samples/FashionStream", "samples/TrainAndServe",
    ];

    [Test]
    public void Every_project_of_tests_samples_and_benchmarks_references_the_backend_of_the_property(
        [ValueSource(nameof(Projects))] string folder, [Values(null, "cuda-windows", "cuda-linux")] string? property)
    {
        var backend = "TorchSharp-" + (property ?? "cpu");
        var project = Path.Combine(Workspace.RepositoryRoot, folder, Path.GetFileName(folder) + ".csproj");

        string[] setting = property is null ? [] : [$"-p:TorchBackend={property}"];
        var output = Dotnet.Run(Workspace.RepositoryRoot, ["msbuild", project, "-getItem:PackageReference", .. setting]);

        JsonDocument.Parse(output).RootElement.GetProperty("Items").GetProperty("PackageReference").EnumerateArray()
            .Select(item => item.GetProperty("Identity").GetString())
            .Where(id => id!.StartsWith("TorchSharp-", StringComparison.Ordinal))
            .Should().Equal(backend);
    }
}
