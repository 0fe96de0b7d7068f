using ContinuousDL.DependencyInjection;
using ContinuousDL.Deployment;
using Microsoft.Extensions.Logging;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Cuda;

/// <summary>Gives trainers of models on CUDA devices a <see cref="CudaUpdateCompression"/>.</summary>
/// <param name="logger">The strategy's.</param>
/// <param name="isCuda">Whether a device is one.</param>
internal sealed class CudaDefaultStrategy(ILogger<CudaUpdateCompression>? logger, Func<Device, bool> isCuda) : IDefaultStrategy
{
    /// <inheritdoc/>
    public IDeploymentStrategy? Create(IReadOnlyList<Parameter> parameters, ProactiveTrainerOptions options) =>
        parameters.Count > 0 && parameters.All(p => isCuda(p.device))
            ? new CudaUpdateCompression(options.Density, UpdateCompression.LookaheadFor(options.Density), logger)
            : null;
}
