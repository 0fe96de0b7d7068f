using Microsoft.Extensions.Logging;

namespace ContinuousDL.Cuda;

/// <summary>What this package logs.</summary>
internal static partial class CudaLog
{
    [LoggerMessage(1, LogLevel.Warning, "Plain TorchSharp operations in place of the CUDA kernels on {Device}: {Problem}")]
    public static partial void KernelsNotUsed(ILogger logger, string device, string problem);

    [LoggerMessage(2, LogLevel.Warning, "Updates are added to the deployed parameters by way of main memory: {Problem}")]
    public static partial void SumsInMainMemory(ILogger logger, string problem);
}
