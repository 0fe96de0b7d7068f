using System.Reflection;
using System.Runtime.CompilerServices;
using ContinuousDL.AspNetCore;
using ContinuousDL.Cuda;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Tests.Architecture;

/// <summary>What a package of the library may use of another one, a stranger's package may use.</summary>
public class InternalsTests
{
    private static readonly Dictionary<string, Assembly> Libraries = new[]
    {
        typeof(ModelUpdate).Assembly,
        typeof(ProactiveTrainer).Assembly,
        typeof(UpdateEndpoints).Assembly,
        typeof(CudaTensorAccess).Assembly,
    }.ToDictionary(a => a.GetName().Name!);

    [Test]
    public void No_library_lets_another_one_see_its_internals()
    {
        var seen =
            from library in Libraries
            from attribute in library.Value.GetCustomAttributes<InternalsVisibleToAttribute>()
            let other = attribute.AssemblyName.Split(',')[0]
            where Libraries.ContainsKey(other)
            select (library.Key, other);
        seen.Should().BeEmpty();
    }

    [Test]
    public void The_check_knows_every_library()
    {
        var root = typeof(InternalsTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "RepositoryRoot").Value!;
        Directory.EnumerateFiles(Path.Combine(root, "src"), "*.csproj", SearchOption.AllDirectories).Select(p => Path.GetFileNameWithoutExtension(p))
            .Should().BeEquivalentTo(Libraries.Keys);
    }
}
