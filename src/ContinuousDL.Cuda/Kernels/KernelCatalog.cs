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
        Of(typeof(ModelKernels), nameof(ModelKernels.SumDigest)),
        Of(typeof(ModelKernels), nameof(ModelKernels.DigestChange)),
        Of(typeof(ModelKernels), nameof(ModelKernels.WriteModel)),
        Of(typeof(ModelKernels), nameof(ModelKernels.ReadModel)),
        Of(typeof(ModelKernels), nameof(ModelKernels.CopyModel)),
        Of(typeof(ModelKernels), nameof(ModelKernels.AddSelected)),
    }.ToDictionary(m => m.Name);

    private static MethodInfo Of(Type type, string name) => type.GetMethod(name, BindingFlags.Public | BindingFlags.Static)!;
}
