using System.Reflection;
using System.Text.RegularExpressions;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace ContinuousDL.Tests.Documentation;

/// <summary>
/// The C# snippets of the documents compile. A snippet that shows using directives must be complete with them; any other
/// gets all namespaces of the libraries. Variables that it doesn't declare are those of <see cref="SnippetContext"/>.
/// </summary>
public partial class SnippetTests
{
    private static readonly string[] ImplicitUsings =
    [
        "System", "System.Collections.Generic", "System.IO", "System.Linq", "System.Net.Http", "System.Threading", "System.Threading.Tasks",
        "Microsoft.AspNetCore.Builder", "Microsoft.AspNetCore.Http", "Microsoft.Extensions.DependencyInjection",
    ];

    // Not all of torch's members: its functions would hide variables of their names, such as log.
    private static readonly string[] TorchUsings =
        ["TorchSharp", "TorchSharp.Modules", "torch = TorchSharp.torch", "nn = TorchSharp.torch.nn", "optim = TorchSharp.torch.optim"];

    // docs/metrics.md shows how to listen with OpenTelemetry, which nothing here references.
    private static readonly string[] NotCompiled = ["docs/metrics.md"];

    private static readonly Assembly[] Libraries =
    [
        typeof(ProactiveTrainer).Assembly, typeof(Replication.Updates.ModelUpdate).Assembly, typeof(Cuda.CudaTensorAccess).Assembly,
        typeof(AspNetCore.UpdateEndpoints).Assembly,
    ];

    private static readonly Lazy<MetadataReference[]> References = new(() =>
        [.. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator).Select(path => MetadataReference.CreateFromFile(path))]);

    private static string Root => typeof(SnippetTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "RepositoryRoot").Value!;

    private static IEnumerable<TestCaseData> Snippets()
    {
        var documents = new[] { "README.md" }
            .Concat(Directory.EnumerateDirectories(Path.Combine(Root, "src")).Select(folder => $"src/{Path.GetFileName(folder)}/README.md"))
            .Concat(Directory.EnumerateFiles(Path.Combine(Root, "docs"), "*.md").Select(file => $"docs/{Path.GetFileName(file)}"))
            .Where(document => File.Exists(Path.Combine(Root, document)))
            .Except(NotCompiled)
            .Order(StringComparer.Ordinal);
        foreach (var document in documents)
        {
            var text = File.ReadAllText(Path.Combine(Root, document)).ReplaceLineEndings("\n");
            var number = 0;
            foreach (Match block in Block().Matches(text))
            {
                var code = block.Groups["language"].Value == "diff" ? AfterChange(block.Groups["code"].Value) : block.Groups["code"].Value;
                var line = text[..block.Groups["code"].Index].Count(c => c == '\n') + 1;
                yield return new TestCaseData(document, line, code).SetArgDisplayNames(document, $"{++number}");
            }
        }
    }

    [TestCaseSource(nameof(Snippets))]
    public void A_snippet_compiles(string document, int line, string code) => Errors(document, line, code).Should().BeEmpty();

    [Test]
    public void An_error_names_its_place_in_the_document() =>
        Errors("guide.md", 12, "var a = 1;\nb.Call(a);\n").Should().Equal("guide.md(13): The name 'b' does not exist in the current context");

    [Test]
    public void Using_directives_that_are_shown_must_be_enough()
    {
        Errors("guide.md", 1, "using ContinuousDL;\nusing var log = UpdateLog.Open(\"updates\");\n").Should().NotBeEmpty();
        Errors("guide.md", 1, "using ContinuousDL.Replication.UpdateLogs;\nusing var log = UpdateLog.Open(\"updates\");\n").Should().BeEmpty();
        Errors("guide.md", 1, "using var log = UpdateLog.Open(\"updates\");\n").Should().BeEmpty();
    }

    private static string[] Errors(string document, int line, string code)
    {
        var options = new CSharpParseOptions(LanguageVersion.Latest);
        var usings = UsingDirective().IsMatch(code) ? ImplicitUsings : [.. ImplicitUsings, .. LibraryNamespaces(), .. TorchUsings];
        var given = string.Concat(usings.Append($"static {typeof(SnippetContext).FullName}").Select(name => $"global using {name};\n"));
        var compilation = CSharpCompilation.Create(
            "Snippet",
            [CSharpSyntaxTree.ParseText(given, options), CSharpSyntaxTree.ParseText($"#line {line} \"{document}\"\n{code}", options)],
            References.Value,
            new CSharpCompilationOptions(OutputKind.ConsoleApplication, nullableContextOptions: NullableContextOptions.Enable));
        return
        [
            .. compilation.GetDiagnostics().Where(d => d.Severity == DiagnosticSeverity.Error)
                .Select(d => $"{document}({d.Location.GetMappedLineSpan().StartLinePosition.Line + 1}): {d.GetMessage(System.Globalization.CultureInfo.InvariantCulture)}"),
        ];
    }

    private static IEnumerable<string> LibraryNamespaces() =>
        Libraries.SelectMany(library => library.GetExportedTypes()).Select(type => type.Namespace!).Distinct();

    /// <summary>What a change leads to: the lines that stay and those that are added.</summary>
    private static string AfterChange(string difference) =>
        string.Join('\n', difference.Split('\n').Select(l => l.StartsWith('-') ? "" : l.Length > 0 ? l[1..] : l));

    [GeneratedRegex(@"^```(?<language>csharp|diff)\n(?<code>.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Block();

    [GeneratedRegex(@"^using (static )?[\w.]+;", RegexOptions.Multiline)]
    private static partial Regex UsingDirective();
}
