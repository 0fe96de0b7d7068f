using System.Text.RegularExpressions;
using ContinuousDL.Cuda.Kernels;
using ILGPU;
using ILGPU.Backends;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace ContinuousDL.Cuda.Ptx;

/// <summary>Translates the kernels to PTX, the assembly that a CUDA driver loads, with ILGPU and without CUDA.</summary>
internal static partial class PtxCompiler
{
    /// <summary>The compute capabilities that PTX is emitted for. A driver runs that of a lower one on any higher.</summary>
    public static IReadOnlyList<(int Major, int Minor)> Targets { get; } = [(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0)];

    /// <summary>
    /// What a target's PTX is written in: for each the version that introduced it, so that the oldest driver that knows the device
    /// understands it.
    /// </summary>
    private static CudaInstructionSet InstructionSet((int Major, int Minor) target) => target switch
    {
        (7, 0) => CudaInstructionSet.ISA_60,
        (7, 5) => CudaInstructionSet.ISA_63,
        (8, 0) => CudaInstructionSet.ISA_70,
        (8, 6) => CudaInstructionSet.ISA_71,
        _ => CudaInstructionSet.ISA_78,
    };

    /// <summary>The best target for a device.</summary>
    /// <param name="major">The device's compute capability.</param>
    /// <param name="minor">Its second part.</param>
    /// <returns>The highest target that is not above it; null where there is none.</returns>
    public static (int Major, int Minor)? TargetFor(int major, int minor)
    {
        (int Major, int Minor)? best = null;
        foreach (var target in Targets)
        {
            if (target.CompareTo((major, minor)) <= 0) best = target;
        }

        return best;
    }

    /// <summary>The name of a kernel's entry point.</summary>
    /// <param name="kernel">The kernel's name, in <see cref="KernelCatalog.Kernels"/>.</param>
    public static string EntryPoint(string kernel) => "Kernel_" + kernel;

    /// <summary>Translates some kernels.</summary>
    /// <param name="target">One of <see cref="Targets"/>.</param>
    /// <param name="kernels">Their names, in <see cref="KernelCatalog.Kernels"/>. Default: all.</param>
    /// <returns>The PTX of each, a module of its own, in the order of the names. The same from call to call.</returns>
    public static IReadOnlyList<(string Name, string Ptx)> Compile((int Major, int Minor) target, IEnumerable<string>? kernels = null)
    {
        // Not O2: its code placement moves a load behind a store to the same place, such as that of the value that a scatter replaces.
        using var context = Context.Create(builder => builder.Optimize(OptimizationLevel.O1));
        using var backend = new PTXBackend(
            context, new CudaCapabilityContext(new CudaArchitecture(target.Major, target.Minor)), new CudaArchitecture(target.Major, target.Minor), InstructionSet(target), null);
        var texts = new List<(string, string)>();
        foreach (var name in kernels ?? KernelCatalog.Kernels.Keys)
        {
            var kernel = EntryPointDescription.FromExplicitlyGroupedKernel(KernelCatalog.Kernels[name]);
            var compiled = (PTXCompiledKernel)backend.Compile(kernel, KernelSpecialization.Empty);
            texts.Add((name, Tidy(compiled.PTXAssembly, kernel.Name, name, target)));
        }

        return texts;
    }

    /// <summary>
    /// Makes a kernel's text depend on the kernel alone, and say what is meant: ILGPU numbers parameters and labels by a counter that
    /// goes on from kernel to kernel, names the methods of all kinds of elements alike, and sm_80 for everything above. And it leaves
    /// the rounding of sums and products open, which lets an assembler fuse the two; stated, it is kept.
    /// </summary>
    private static string Tidy(string ptx, string entry, string kernel, (int Major, int Minor) target)
    {
        var names = new Dictionary<string, string>();
        ptx = NumberedName().Replace(ptx.ReplaceLineEndings("\n"), match =>
        {
            if (!names.TryGetValue(match.Value, out var name))
            {
                name = match.Groups["parameter"].Success ? match.Groups["parameter"].Value : $"L_{names.Count}";
                names.Add(match.Value, name);
            }

            return name;
        });
        ptx = ptx.Replace($".entry {entry}(", $".entry {EntryPoint(kernel)}(", StringComparison.Ordinal);
        ptx = OpenRounding().Replace(ptx, "$1.rn.$2");
        return Target().Replace(ptx, $".target sm_{target.Major}{target.Minor}");
    }

    [GeneratedRegex(@"\b(?:(?<parameter>_[A-Za-z]+)_\d+|L_\d+)\b")]
    private static partial Regex NumberedName();

    [GeneratedRegex(@"\b(add|sub|mul)\.(f32|f64)\b")]
    private static partial Regex OpenRounding();

    [GeneratedRegex(@"\.target sm_\d+")]
    private static partial Regex Target();
}
