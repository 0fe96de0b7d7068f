using System.Text.RegularExpressions;
using ContinuousDL.Cuda.Kernels;
using ContinuousDL.Cuda.Ptx;
using ILGPU;

namespace ContinuousDL.Cuda.Tests;

/// <summary>
/// What can be said of the kernels' PTX without CUDA: that it is well-formed, takes the parameters that the driver layer passes,
/// spills nothing, and has the loads and atomics that were meant.
/// </summary>
/// <remarks>A check of the text, which <see cref="PtxExecutionTests"/> runs; only ptxas (see tools/ptx-check/ptxas.sh) or a driver can say that it assembles.</remarks>
public partial class PtxTests
{
    private static readonly Dictionary<(int, int), IReadOnlyList<(string Name, string Ptx)>> Compiled = [];

    /// <summary>Every atomic that a kernel may have, with how often; a shared one is a group's own, the others are of memory that all share.</summary>
    private static readonly Dictionary<string, string[]> Atomics = new()
    {
        ["Begin"] = [],
        ["Accumulate"] = ["atom.add.u32", "red.add.shared.u32", "red.add.shared.u32", "red.or.shared.b32", "red.or.shared.b32"],
        ["TakeBack"] = ["atom.add.u32", "red.add.shared.u32", "red.add.shared.u32", "red.or.shared.b32", "red.or.shared.b32"],
        ["LookAhead"] = [],
        ["Histogram"] = ["red.add.u32", "red.add.shared.u32"],
        ["FindDigit"] = [],
        ["CountTiles"] = ["red.add.shared.u32", "red.add.shared.u32"],
        ["ScanTiles"] = [],
        ["Compact"] = ["red.or.shared.b32", "red.or.shared.b32"],
        ["Gather"] = [],
        ["Subtract"] = [],
        ["SumDigest"] = ["red.add.u64", "red.add.shared.u64"],
        ["DigestChange"] = ["red.add.u64", "red.add.shared.u64"],
        ["WriteModel"] = [],
        ["ReadModel"] = [],
        ["CopyModel"] = [],
        ["AddSelected"] = ["red.add.u64", "red.add.shared.u64"],
    };

    /// <summary>Barriers of each kernel; too few would be a race that no CPU accelerator has to show.</summary>
    private static readonly Dictionary<string, int> Barriers = new()
    {
        ["Begin"] = 0,
        ["Accumulate"] = 3,
        ["TakeBack"] = 3,
        ["LookAhead"] = 0,
        ["Histogram"] = 2,
        ["FindDigit"] = 1,
        ["CountTiles"] = 2,
        ["ScanTiles"] = 1,
        ["Compact"] = 3,
        ["Gather"] = 0,
        ["Subtract"] = 0,
        ["SumDigest"] = 2,
        ["DigestChange"] = 2,
        ["WriteModel"] = 0,
        ["ReadModel"] = 0,
        ["CopyModel"] = 0,
        ["AddSelected"] = 2,
    };

    private static IEnumerable<TestCaseData> All =>
        from target in PtxCompiler.Targets
        from kernel in KernelCatalog.Kernels.Keys
        select new TestCaseData(target, kernel).SetArgDisplayNames($"sm_{target.Major}{target.Minor}", kernel);

    [TestCaseSource(nameof(All))]
    public void Module_is_for_the_target_and_has_the_kernel_as_its_only_entry((int Major, int Minor) target, string kernel)
    {
        var ptx = Ptx(target, kernel);
        Regex.Match(ptx, @"^\.target (\S+)$", RegexOptions.Multiline).Groups[1].Value.Should().Be($"sm_{target.Major}{target.Minor}");
        Regex.Match(ptx, @"^\.address_size (\S+)$", RegexOptions.Multiline).Groups[1].Value.Should().Be("64");
        Regex.Matches(ptx, @"\.entry (\w+)\(").Select(m => m.Groups[1].Value).Should().Equal("Kernel_" + kernel);
        PtxCompiler.EntryPoint(kernel).Should().Be("Kernel_" + kernel);
        ptx.Should().NotContain(".func").And.NotContain(".extern").And.NotContain("call").And.NotContain(".weak");
    }

    [TestCaseSource(nameof(All))]
    public void Parameters_are_16_bytes_for_each_view_and_4_for_each_number((int Major, int Minor) target, string kernel)
    {
        var expected = KernelCatalog.Kernels[kernel].GetParameters().Select(p => p.ParameterType switch
        {
            var t when t == typeof(int) => ".param .b32 _" + p.Name,
            var t when t == typeof(float) => ".param .f32 _" + p.Name,
            var t when t.GetGenericTypeDefinition() == typeof(ArrayView<>) => $".param .align 8 .b8 _{p.Name}[16]",
            var t => throw new NotSupportedException(t.Name),
        });
        Entry().Match(Ptx(target, kernel)).Groups["parameters"].Value.Split(',').Select(p => p.Trim()).Should().Equal(expected);
    }

    [TestCaseSource(nameof(All))]
    public void Every_register_and_label_is_declared_and_every_instruction_known((int Major, int Minor) target, string kernel)
    {
        var body = Entry().Match(Ptx(target, kernel)).Groups["body"].Value;
        var registers = new HashSet<string>();
        foreach (Match declaration in Regex.Matches(body, @"\.reg \.\w+\s+(%\w+?)<(\d+)>;"))
        {
            for (var i = 0; i < int.Parse(declaration.Groups[2].Value, System.Globalization.CultureInfo.InvariantCulture); i++) registers.Add(declaration.Groups[1].Value + i);
        }

        var labels = Regex.Matches(body, @"^\s*(L_\d+):", RegexOptions.Multiline).Select(m => m.Groups[1].Value).ToArray();
        labels.Should().OnlyHaveUniqueItems();
        foreach (var line in body.Split('\n').Select(l => l.Trim()))
        {
            if (line.Length == 0 || line.StartsWith('.') || line.EndsWith(':')) continue;
            line.Should().EndWith(";");
            var instruction = Instruction().Match(line);
            instruction.Success.Should().BeTrue("'{0}' is an instruction", line);
            Opcode().IsMatch(instruction.Groups["opcode"].Value).Should().BeTrue("'{0}' is meant", line);
            Regex.Matches(line, @"%(?:p|r|rd|rs|f|fd)\d+").Select(m => m.Value).Should().BeSubsetOf(registers);
            Regex.Matches(line, @"L_\d+").Select(m => m.Value).Should().BeSubsetOf(labels);
        }
    }

    [TestCaseSource(nameof(All))]
    public void Nothing_is_spilled_fused_or_flushed((int Major, int Minor) target, string kernel)
    {
        var ptx = Ptx(target, kernel);
        ptx.Should().NotContain(".local").And.NotContain("fma").And.NotContain(".ftz").And.NotContain(".approx");
        Regex.Matches(ptx, @"\b(?:add|sub|mul|mad|div)\.f(?:32|64)").Should().BeEmpty("an assembler may fuse what has no rounding of its own");
    }

    [TestCaseSource(nameof(All))]
    public void Conversions_of_numbers_are_those_of_float64_parameters_alone((int Major, int Minor) target, string kernel)
    {
        var ptx = Ptx(target, kernel);
        string[] expected = kernel switch
        {
            nameof(ModelKernels.AddSelected) => ["cvt.f64.f32", "cvt.rn.f32.f64"],
            nameof(ModelKernels.LookAhead) => ["cvt.f64.f32"],
            _ => [],
        };
        Regex.Matches(ptx, @"\bcvt\.[\w.]*f(?:16|32|64)[\w.]*").Select(m => m.Value).Should().BeEquivalentTo(expected);
        if (expected.Length == 0) ptx.Should().NotContain(".f64");
    }

    [TestCaseSource(nameof(All))]
    public void Atomics_and_barriers_are_those_that_were_meant((int Major, int Minor) target, string kernel)
    {
        var ptx = Ptx(target, kernel);
        Regex.Matches(ptx, @"\b(?:atom|red)\.[\w.]+").Select(m => m.Value).Should().BeEquivalentTo(Atomics[Method(kernel)]);
        Regex.Matches(ptx, @"\bbar\.sync\b").Should().HaveCount(Barriers[Method(kernel)]);
    }

    [TestCaseSource(nameof(All))]
    public void Only_what_goes_over_all_weights_moves_128_bits_at_once((int Major, int Minor) target, string kernel)
    {
        var ptx = Ptx(target, kernel);

        // Eight elements of 16 bits go with two times four of what is owed.
        var owed = kernel.EndsWith("16", StringComparison.Ordinal) ? 2 : 1;
        var (loads, stores) = Method(kernel) switch
        {
            nameof(AccumulationKernels.Accumulate) => (1 + owed, owed),
            nameof(AccumulationKernels.TakeBack) => (2 + owed, 1 + owed),
            _ => (0, 0),
        };
        (Regex.Matches(ptx, @"\bld\.v4\.[fb]32").Count, Regex.Matches(ptx, @"\bst\.v4\.[fb]32").Count).Should().Be((loads, stores));
    }

    [Test]
    public void Text_is_the_same_from_run_to_run()
    {
        var target = PtxCompiler.Targets[^1];
        PtxCompiler.Compile(target).Should().Equal(Modules(target));
        PtxCompiler.Compile(target, ["Compact", "Begin"]).Should().Equal(Modules(target).Where(m => m.Name == "Compact").Concat(Modules(target).Where(m => m.Name == "Begin")));
    }

    [TestCase(6, 1, null)]
    [TestCase(7, 0, "7.0")]
    [TestCase(7, 2, "7.0")]
    [TestCase(8, 7, "8.6")]
    [TestCase(9, 0, "9.0")]
    [TestCase(12, 0, "9.0")]
    public void A_device_gets_the_best_target_that_it_can_run(int major, int minor, string? expected) =>
        (PtxCompiler.TargetFor(major, minor) is { } target ? $"{target.Major}.{target.Minor}" : null).Should().Be(expected);

    /// <summary>The name of a kernel's method.</summary>
    private static string Method(string kernel) => KernelCatalog.Kernels[kernel].Name;

    private static string Ptx((int Major, int Minor) target, string kernel) => Modules(target).Single(m => m.Name == kernel).Ptx;

    /// <summary>All kernels for a target, translated once for all tests.</summary>
    internal static IReadOnlyList<(string Name, string Ptx)> Modules((int Major, int Minor) target)
    {
        if (!Compiled.TryGetValue(target, out var modules)) Compiled.Add(target, modules = PtxCompiler.Compile(target));
        return modules;
    }

    [GeneratedRegex(@"\.visible \.entry \w+\(\n(?<parameters>[^)]*)\)\n\{(?<body>.*)\n\}\s*$", RegexOptions.Singleline)]
    private static partial Regex Entry();

    [GeneratedRegex(@"^(?:@!?%p\d+ )?(?<opcode>[a-z][\w.]*)(?:\s+[^;]+)?;$")]
    private static partial Regex Instruction();

    [GeneratedRegex(@"^(?:ld|st|mov|cvt|add|sub|mul|mad|div|rem|neg|min|max|and|or|xor|not|shl|shr|setp|selp|popc|clz|brev|bfind|bra|bar\.sync|ret|atom|red)(?:\.|$)")]
    private static partial Regex Opcode();
}
