using System.IO.Compression;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Text;
using System.Xml.Linq;

namespace ContinuousDL.PackageTests;

/// <summary>What a package holds, and what it says about itself.</summary>
[TestFixture("ContinuousDL.Replication")]
[TestFixture("ContinuousDL")]
[TestFixture("ContinuousDL.AspNetCore")]
[TestFixture("ContinuousDL.Cuda")]
[Category("Slow")]
public class PackageContentTests(string id)
{
    private static readonly Guid s_embeddedSource = new("0E8A571B-6926-466E-B4AD-8AB04611F5FE");

    private ZipArchive _package;
    private ZipArchive _symbols;

    [OneTimeSetUp]
    public void Open()
    {
        _package = ZipFile.OpenRead(Workspace.PathOfPackage(id, "nupkg"));
        _symbols = ZipFile.OpenRead(Workspace.PathOfPackage(id, "snupkg"));
    }

    [OneTimeTearDown]
    public void Close()
    {
        _package.Dispose();
        _symbols.Dispose();
    }

    [Test]
    public void Package_holds_library_documentation_readme_and_licence()
    {
        _package.Entries.Select(entry => entry.FullName).Should().Contain(
            [$"lib/net10.0/{id}.dll", $"lib/net10.0/{id}.xml", "README.md", "LICENSE", $"{id}.nuspec"]);
    }

    [Test]
    public void Readme_and_licence_are_those_of_the_repository()
    {
        var root = Workspace.RepositoryRoot;
        Read(_package, "README.md").Should().Equal(File.ReadAllBytes(Path.Combine(root, "src", id, "README.md")));
        Read(_package, "LICENSE").Should().Equal(File.ReadAllBytes(Path.Combine(root, "LICENSE")));
    }

    [Test]
    public void Every_public_type_is_documented()
    {
        using var reader = new PEReader(new MemoryStream(Read(_package, $"lib/net10.0/{id}.dll")));
        var metadata = reader.GetMetadataReader();
        var types = metadata.TypeDefinitions.Select(metadata.GetTypeDefinition)
            .Where(type => (type.Attributes & System.Reflection.TypeAttributes.VisibilityMask) == System.Reflection.TypeAttributes.Public)
            .Select(type => $"T:{metadata.GetString(type.Namespace)}.{metadata.GetString(type.Name)}");

        var documented = XDocument.Load(new MemoryStream(Read(_package, $"lib/net10.0/{id}.xml")))
            .Descendants("member").Select(member => member.Attribute("name")!.Value);

        types.Except(documented).Should().BeEmpty();
    }

    [Test]
    public void Package_says_who_made_it_under_which_licence_and_from_what()
    {
        var nuspec = XDocument.Load(new MemoryStream(Read(_package, $"{id}.nuspec")));
        string Value(string name) => nuspec.Descendants().Single(element => element.Name.LocalName == name).Value;

        Value("authors").Should().Be("ContinuousDL contributors");
        Value("license").Should().Be("MIT");
        Value("readme").Should().Be("README.md");
        Value("description").Should().NotBeNullOrWhiteSpace().And.NotBe("Package Description");
        Value("tags").Should().Contain(id == "ContinuousDL.Replication" ? "replication" : "TorchSharp");
        var repository = nuspec.Descendants().Single(element => element.Name.LocalName == "repository");
        repository.Attribute("type")!.Value.Should().Be("git");
        if (Path.Exists(Path.Combine(Workspace.RepositoryRoot, ".git")))
        {
            repository.Attribute("commit")!.Value.Should().MatchRegex("^[0-9a-f]{40,64}$");
        }
    }

    [Test]
    public void Library_carries_what_a_build_on_older_Linux_needs()
    {
        var entries = _package.Entries.Select(entry => entry.FullName).Where(name => name.StartsWith("build", StringComparison.Ordinal));

        // The other package reaches the targets through its dependency.
        string[] expected = id == "ContinuousDL"
            ? ["buildTransitive/ContinuousDL.targets", "buildTransitive/WeakenSymbolVersion.cs"]
            : [];
        entries.Should().BeEquivalentTo(expected);
    }

    [Test]
    public void Symbols_belong_to_the_library_and_carry_its_sources_under_paths_of_the_repository()
    {
        using var provider = MetadataReaderProvider.FromPortablePdbStream(new MemoryStream(Read(_symbols, $"lib/net10.0/{id}.pdb")));
        var symbols = provider.GetMetadataReader();
        using var library = new PEReader(new MemoryStream(Read(_package, $"lib/net10.0/{id}.dll")));
        var entry = library.ReadDebugDirectory().Single(entry => entry.Type == DebugDirectoryEntryType.CodeView);
        var codeView = library.ReadCodeViewDebugDirectoryData(entry);

        new BlobContentId(symbols.DebugMetadataHeader!.Id).Guid.Should().Be(codeView.Guid);
        codeView.Path.Should().StartWith("/_/");
        symbols.Documents.Should().NotBeEmpty();
        foreach (var handle in symbols.Documents)
        {
            var name = symbols.GetString(symbols.GetDocument(handle).Name);
            name.Should().StartWith("/_/");
            symbols.GetCustomDebugInformation(handle).Select(symbols.GetCustomDebugInformation)
                .Should().Contain(information => symbols.GetGuid(information.Kind) == s_embeddedSource, "{0} is embedded", name);
        }
    }

    [Test]
    public void No_path_of_this_machine_is_in_a_package()
    {
        var folders = new[] { Workspace.RepositoryRoot, Workspace.Root, Workspace.PackageCache }
            .Select(folder => folder.TrimEnd('/', '\\'));
        var needles = folders.SelectMany(folder => new[] { Encoding.UTF8.GetBytes(folder), Encoding.Unicode.GetBytes(folder) }).ToList();

        foreach (var entry in _package.Entries.Concat(_symbols.Entries))
        {
            var content = Read(entry);
            needles.Any(needle => content.AsSpan().IndexOf(needle) >= 0).Should().BeFalse("{0} is made on any machine", entry.FullName);
        }
    }

    private static byte[] Read(ZipArchive archive, string path)
    {
        return Read(archive.GetEntry(path) ?? throw new FileNotFoundException($"The package has no {path}."));
    }

    private static byte[] Read(ZipArchiveEntry entry)
    {
        using var content = entry.Open();
        using var bytes = new MemoryStream();
        content.CopyTo(bytes);
        return bytes.ToArray();
    }
}
