using System.ComponentModel.DataAnnotations;

namespace ContinuousDL.Deployment;

/// <summary>When the values of buffers (running statistics of batch normalisation) become part of the deployed model.</summary>
public enum BufferDeploymentMode
{
    /// <summary>Every value that changed, with every update.</summary>
    EveryUpdate,

    /// <summary>Every value that changed, with every <see cref="BufferDeploymentOptions.Interval"/>th update.</summary>
    Periodic,

    /// <summary>With every update, the <see cref="BufferDeploymentOptions.Count"/> values that changed most, relative to their size.</summary>
    LargestChange,
}

/// <summary>
/// How buffers are deployed. A model with batch normalisation can have more running statistics than a sparse update has
/// coordinates (ResNet-18: 9,600); whichever mode is chosen, the replicas' buffers are exactly the deployed model's.
/// </summary>
public sealed class BufferDeploymentOptions
{
    /// <summary>When buffers are deployed: often keeps the statistics fresh, seldom keeps updates small. <value>Default: <see cref="BufferDeploymentMode.EveryUpdate"/>.</value></summary>
    [EnumDataType(typeof(BufferDeploymentMode))]
    public BufferDeploymentMode Mode { get; set; } = BufferDeploymentMode.EveryUpdate;

    /// <summary>For <see cref="BufferDeploymentMode.Periodic"/>: deploy with every how-many-th update. <value>Default: 100.</value></summary>
    [Range(1, int.MaxValue)]
    public int Interval { get; set; } = 100;

    /// <summary>For <see cref="BufferDeploymentMode.LargestChange"/>: how many values to deploy with an update. <value>Default: 64.</value></summary>
    [Range(1, int.MaxValue)]
    public int Count { get; set; } = 64;
}
