using System.Reflection;
using TorchSharp;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>All kernels, by name.</summary>
internal static class KernelCatalog
{
    /// <summary>
    /// The kernels: static methods whose parameters are views and numbers. A method for any kind of elements is here once for each,
    /// named after both: <see cref="NameFor"/>.
    /// </summary>
    public static IReadOnlyDictionary<string, MethodInfo> Kernels { get; } = new Dictionary<string, MethodInfo>(
    [
        Of(typeof(SelectionKernels), nameof(SelectionKernels.Begin)),
        .. ForElements(typeof(AccumulationKernels), nameof(AccumulationKernels.Accumulate)),
        .. ForElements(typeof(AccumulationKernels), nameof(AccumulationKernels.TakeBack)),
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
        Of(typeof(ModelKernels), nameof(ModelKernels.LookAhead)),
    ]);

    /// <summary>The name of a kernel for tensors of a dtype.</summary>
    /// <param name="method">The method's name.</param>
    /// <param name="dtype">The tensors' dtype: float32, bfloat16 or float16.</param>
    public static string NameFor(string method, torch.ScalarType dtype) => method + dtype;

    private static KeyValuePair<string, MethodInfo> Of(Type type, string name) => new(name, Method(type, name));

    private static IEnumerable<KeyValuePair<string, MethodInfo>> ForElements(Type type, string name) =>
    [
        new(NameFor(name, torch.ScalarType.Float32), Method(type, name).MakeGenericMethod(typeof(float), typeof(Float32Elements))),
        new(NameFor(name, torch.ScalarType.BFloat16), Method(type, name).MakeGenericMethod(typeof(ushort), typeof(BFloat16Elements))),
        new(NameFor(name, torch.ScalarType.Float16), Method(type, name).MakeGenericMethod(typeof(ushort), typeof(Float16Elements))),
    ];

    private static MethodInfo Method(Type type, string name) => type.GetMethod(name, BindingFlags.Public | BindingFlags.Static)!;
}
