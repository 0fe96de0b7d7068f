using System.Reflection;
using System.Text.RegularExpressions;

namespace ContinuousDL.Tests.Architecture;

/// <summary>The folders of each package are in an order, and each uses only those before it: docs/architecture.md says why.</summary>
public partial class RoomOrderTests
{
    private static readonly Dictionary<string, string[]> Orders = new()
    {
        // The empty name is the package's own folder.
        ["ContinuousDL.Replication"] = ["", "Storage", "Models", "Updates", "Wire", "Transport", "UpdateLogs", "Replicas"],
        ["ContinuousDL"] =
        [
            "State", "Memory", "Randomness", "Parameters", "History", "Sampling", "Failures", "Vectors", "Optimization", "Residuals", "Compression",
            "Deployment", "Replicas", "Evaluation", "Checkpoints", "Diagnostics", "", "DependencyInjection",
        ],
    };

    private static string[] Packages => [.. Orders.Keys];

    [TestCaseSource(nameof(Packages))]
    public void A_folder_uses_only_folders_before_it(string package)
    {
        var files = Read(package);
        var homes = Homes(files);
        var order = Orders[package];
        var breaches =
            from file in files
            from name in Identifiers(file.Code)
            where homes.TryGetValue(name, out var home) && Array.IndexOf(order, home) > Array.IndexOf(order, file.Folder)
            select $"{package}/{file.Folder}/{file.Name} uses {name} of {homes[name]}";
        breaches.Should().BeEmpty();
    }

    [TestCaseSource(nameof(Packages))]
    public void Every_folder_has_a_place_in_the_order(string package) =>
        Read(package).Select(f => f.Folder).Distinct().Should().BeSubsetOf(Orders[package]);

    [TestCaseSource(nameof(Packages))]
    public void The_check_sees_what_each_folder_but_the_first_uses(string package)
    {
        // Should the patterns below no longer fit the source, nothing would be found, and nothing could fail.
        var files = Read(package);
        var homes = Homes(files);
        homes.Should().HaveCountGreaterThan(20);
        files.Where(f => f.Folder == Orders[package][^1]).SelectMany(f => Identifiers(f.Code)).Where(homes.ContainsKey).Select(n => homes[n]).Distinct()
            .Should().HaveCountGreaterThan(3);
    }

    [Test]
    public void The_replication_package_knows_no_deep_learning_runtime()
    {
        typeof(Replication.Updates.ModelUpdate).Assembly.GetReferencedAssemblies().Select(a => a.Name)
            .Should().NotContain(["TorchSharp", "ContinuousDL"]);
    }

    private static List<SourceFile> Read(string package)
    {
        var root = Path.Combine(Root, "src", package);
        return
        [
            .. from path in Directory.EnumerateFiles(root, "*.cs", SearchOption.AllDirectories)
               let relative = Path.GetRelativePath(root, path).Replace('\\', '/')
               where !relative.StartsWith("obj/", StringComparison.Ordinal) && !relative.StartsWith("bin/", StringComparison.Ordinal) && !relative.StartsWith("buildTransitive/", StringComparison.Ordinal)
               select new SourceFile(Path.GetDirectoryName(relative)!.Replace('\\', '/'), Path.GetFileName(path), Code(File.ReadAllText(path))),
        ];
    }

    /// <summary>The folder of each type of a package; types that have a namesake are left out.</summary>
    private static Dictionary<string, string> Homes(List<SourceFile> files) =>
        files.SelectMany(f => Declarations().Matches(f.Code).Select(m => (Name: m.Groups[1].Value, f.Folder))).Distinct()
            .GroupBy(d => d.Name).Where(g => g.Count() == 1).ToDictionary(g => g.Key, g => g.First().Folder);

    private static IEnumerable<string> Identifiers(string code) => Names().Matches(code).Select(m => m.Value).Distinct();

    private static string Code(string source) =>
        Texts().Replace(Comments().Replace(source, ""), m => m.Value.StartsWith('$') ? m.Value : "\"\"");

    private static string Root => typeof(RoomOrderTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "RepositoryRoot").Value!;

    [GeneratedRegex(@"^(?:public |internal )?(?:static |sealed |abstract |readonly |ref |partial |unsafe )*(?:class|struct|record struct|record|interface|enum) (\w+)", RegexOptions.Multiline)]
    private static partial Regex Declarations();

    [GeneratedRegex(@"(?<![\w.])[A-Z]\w*")]
    private static partial Regex Names();

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comments();

    [GeneratedRegex("\\$?\"(?:\\\\.|[^\"\\\\\n])*\"")]
    private static partial Regex Texts();

    private sealed record SourceFile(string Folder, string Name, string Code);
}
