using System.Reflection;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>All kernels, by name.</summary>
internal static class KernelCatalog
{
    /// <summary>The kernels: static methods whose parameters are views and numbers.</summary>
    public static IReadOnlyDictionary<string, MethodInfo> Kernels { get; } = new[]
    {
        Of(typeof(SelectionKernels), nameof(SelectionKernels.Begin)),
        Of(typeof(SelectionKernels), nameof(SelectionKernels.AccumulateQuads)),
        Of(typeof(SelectionKernels), nameof(SelectionKernels.AccumulateScalars)),
        Of(typeof(SelectionKernels), nameof(SelectionKernels.Histogram)),
        Of(typeof(SelectionKernels), nameof(SelectionKernels.FindDigit)),
        Of(typeof(SelectionKernels), nameof(SelectionKernels.CountTiles)),
        Of(typeof(SelectionKernels), nameof(SelectionKernels.ScanTiles)),
        Of(typeof(SelectionKernels), nameof(SelectionKernels.Compact)),
        Of(typeof(UpdateKernels), nameof(UpdateKernels.Gather)),
        Of(typeof(UpdateKernels), nameof(UpdateKernels.Subtract)),
        Of(typeof(UpdateKernels), nameof(UpdateKernels.ScatterWords)),
        Of(typeof(UpdateKernels), nameof(UpdateKernels.ScatterHalfWords)),
    }.ToDictionary(m => m.Name);

    private static MethodInfo Of(Type type, string name) => type.GetMethod(name, BindingFlags.Public | BindingFlags.Static)!;
}
