namespace ContinuousDL.PackageTests;

/// <summary>The task of the package that corrects the library, on files it must refuse or leave alone.</summary>
[Category("Slow")]
public class WeakenSymbolVersionTests
{
    private readonly string _folder = Path.Combine(Workspace.Root, "task");

    private byte[] _library;
    private string _output;

    /// <summary>Runs the task on all files at once: MSBuild takes longer to start and to compile it than it takes.</summary>
    [OneTimeSetUp]
    public void RunTask()
    {
        _library = File.ReadAllBytes(Workspace.OriginalLibrary);
        Directory.CreateDirectory(_folder);
        File.WriteAllBytes(PathOf("whole.so"), _library);
        foreach (var length in new[] { 0, 63, 100_000 }) File.WriteAllBytes(PathOf($"truncated-{length}.so"), _library[..length]);
        File.WriteAllText(
            PathOf("task.proj"),
            $"""
            <Project>
              <Import Project="{Workspace.RepositoryRoot}src/ContinuousDL/buildTransitive/ContinuousDL.targets" />
              <ItemGroup>
                <Run Include="whole.so" Version="GLIBCXX_3.4.32" To="out/corrected.so" />
                <Run Include="out/corrected.so" Version="GLIBCXX_3.4.32" To="out/corrected-twice.so" />
                <Run Include="whole.so" Version="GLIBCXX_3.4.30" To="out/needed.so" />
                <Run Include="whole.so" Version="GLIBCXX_9.9.99" To="out/unknown.so" />
                <Run Include="truncated-0.so;truncated-63.so;truncated-100000.so" Version="GLIBCXX_3.4.32" To="out/%(Identity)" />
              </ItemGroup>
              <Target Name="Weaken">
                <WeakenSymbolVersion Source="%(Run.FullPath)" Destination="%(Run.To)" SymbolVersion="%(Run.Version)"
                                     OnlySymbol="_ZSt21ios_base_library_initv" ContinueOnError="true" />
              </Target>
            </Project>
            """);
        _output = Dotnet.Run(_folder, "msbuild", "task.proj", "-nologo", "-t:Weaken");
    }

    [Test]
    public void Version_that_the_marker_alone_wants_is_marked()
    {
        IsOriginal("out/corrected.so").Should().BeFalse();
    }

    [Test]
    public void Corrected_library_stays_as_it_is()
    {
        var corrected = File.ReadAllBytes(PathOf("out/corrected.so"));

        File.ReadAllBytes(PathOf("out/corrected-twice.so")).AsSpan().SequenceEqual(corrected).Should().BeTrue();
    }

    [TestCase("out/needed.so")]
    [TestCase("out/unknown.so")]
    public void Version_that_other_symbols_want_too_or_none_wants_is_left_alone(string copy)
    {
        IsOriginal(copy).Should().BeTrue();
    }

    [TestCase("truncated-0.so")]
    [TestCase("truncated-63.so")]
    [TestCase("truncated-100000.so")]
    public void Truncated_library_is_an_error_that_says_how_to_go_on_and_gives_no_copy(string source)
    {
        _output.Split('\n').Should().Contain(line =>
            line.Contains($"Cannot write a copy of {PathOf(source)}") &&
            line.Contains("Set ContinuousDLFixTorchSharpForOlderLinux to false"));
        File.Exists(PathOf("out/" + source)).Should().BeFalse();
    }

    private bool IsOriginal(string copy) => File.ReadAllBytes(PathOf(copy)).AsSpan().SequenceEqual(_library);

    private string PathOf(string name) => Path.Combine(_folder, name);
}
