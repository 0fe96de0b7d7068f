using System.Text.Json;

namespace ContinuousDL.PackageTests;

/// <summary>One property, <c>TorchBackend</c>, picks the TorchSharp backend of tests, samples and benchmarks.</summary>
public class TorchBackendTests
{
    [TestCase(null, "TorchSharp-cpu")]
    [TestCase("cuda-windows", "TorchSharp-cuda-windows")]
    [TestCase("cuda-linux", "TorchSharp-cuda-linux")]
    public void Test_project_references_the_backend_of_the_property(string? property, string backend)
    {
        var project = Path.Combine(Workspace.RepositoryRoot, "tests", "ContinuousDL.Tests", "ContinuousDL.Tests.csproj");

        string[] setting = property is null ? [] : [$"-p:TorchBackend={property}"];
        var output = Dotnet.Run(Workspace.RepositoryRoot, ["msbuild", project, "-getItem:PackageReference", .. setting]);

        JsonDocument.Parse(output).RootElement.GetProperty("Items").GetProperty("PackageReference").EnumerateArray()
            .Select(item => item.GetProperty("Identity").GetString())
            .Where(id => id!.StartsWith("TorchSharp-", StringComparison.Ordinal))
            .Should().Equal(backend);
    }
}
