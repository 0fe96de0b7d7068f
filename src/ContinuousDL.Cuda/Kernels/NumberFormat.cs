using ContinuousDL.Replication.Models;

namespace ContinuousDL.Cuda.Kernels;

/// <summary>How a sum is rounded, as kernels are told: a parameter's dtype, or float32 with the precision of what is deployed.</summary>
internal static class NumberFormat
{
    /// <summary>float32.</summary>
    public const int Single = 0;

    /// <summary>float32 whose sums are rounded to bfloat16.</summary>
    public const int SingleAsBFloat16 = 1;

    /// <summary>float32 whose sums are rounded to float16.</summary>
    public const int SingleAsHalf = 2;

    /// <summary>bfloat16.</summary>
    public const int BFloat16 = 3;

    /// <summary>float16.</summary>
    public const int Half = 4;

    /// <summary>float64.</summary>
    public const int Double = 5;

    /// <summary>The format of a parameter.</summary>
    /// <param name="dtype">Its dtype, one that can be trained.</param>
    /// <param name="precision">What deployed float32 values are rounded to.</param>
    public static int Of(DType dtype, DeployedValuePrecision precision) => (dtype, precision) switch
    {
        (DType.Float64, _) => Double,
        (DType.Float16, _) => Half,
        (DType.BFloat16, _) => BFloat16,
        (_, DeployedValuePrecision.BFloat16) => SingleAsBFloat16,
        (_, DeployedValuePrecision.Float16) => SingleAsHalf,
        _ => Single,
    };
}
