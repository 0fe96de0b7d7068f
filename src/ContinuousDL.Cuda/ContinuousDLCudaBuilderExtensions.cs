using ContinuousDL.Cuda;
using ContinuousDL.DependencyInjection;
using ContinuousDL.Parameters;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using TorchSharp;
using static TorchSharp.torch;

// Where the framework's own Add... methods are, so that they are found without another using.
namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Lets a registered trainer use a CUDA device for its compression.</summary>
public static class ContinuousDLCudaBuilderExtensions
{
    /// <summary>
    /// Gives the trainer a <see cref="CudaUpdateCompression"/> at the options' density, with the look-ahead of the trainer's own
    /// default, where all of the model's parameters are on CUDA devices when the trainer is made; a strategy that the builder was
    /// told of goes first. With the model elsewhere, nothing changes. The container's replicas of models on CUDA devices use the
    /// kernels, too (<see cref="CudaTensorAccess"/>).
    /// </summary>
    /// <example>
    /// <code>
    /// services.AddContinuousDL(_ => new LeNet5().to(DeviceType.CUDA))
    ///     .UseOptimizer((_, model) => optim.Adam(model.parameters(), 1e-3))
    ///     .AddContinuousDLCuda();
    /// </code>
    /// </example>
    /// <typeparam name="TModule">The type of the model.</typeparam>
    /// <param name="builder">The builder.</param>
    /// <returns>The same builder.</returns>
    public static ContinuousDLBuilder<TModule> AddContinuousDLCuda<TModule>(this ContinuousDLBuilder<TModule> builder)
        where TModule : nn.Module<Tensor, Tensor>
    {
        ArgumentNullException.ThrowIfNull(builder);
        builder.Services.TryAddSingleton<ITensorAccessProvider>(provider => new CudaTensorAccess(provider.GetService<ILogger<CudaTensorAccess>>()));
        builder.Services.TryAddEnumerable(ServiceDescriptor.Singleton<IDefaultStrategy, CudaDefaultStrategy>(
            provider => new CudaDefaultStrategy(provider.GetService<ILogger<CudaUpdateCompression>>(), device => device.type == DeviceType.CUDA)));
        return builder;
    }
}
