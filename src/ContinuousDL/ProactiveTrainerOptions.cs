using System.ComponentModel.DataAnnotations;
using ContinuousDL.Deployment;
using ContinuousDL.History;
using ContinuousDL.Parameters;
using ContinuousDL.Replication;
using ContinuousDL.Replication.Models;
using ContinuousDL.Vectors;

namespace ContinuousDL;

/// <summary>The options of a <see cref="ProactiveTrainer"/>.</summary>
public sealed class ProactiveTrainerOptions
{
    internal const int MostSamples = 1 << 24;

    /// <summary>How many samples a step trains on, new and historical together: more, and a step is slower and its gradient less noisy. <value>Default: 128.</value></summary>
    [Range(1, MostSamples)]
    public int BatchSize { get; set; } = 128;

    /// <summary>How many new samples make a step due: fewer, and the model is fresher and trains more. Above the batch size, one step leaves new samples over: step while <see cref="ProactiveTrainer.PendingSamples"/> is that many. At most the history's capacity, if it has one. <value>Default: 8.</value></summary>
    [Range(1, MostSamples)]
    public int TriggerSize { get; set; } = 8;

    /// <summary>
    /// The share of the trainable coordinates that a step may change, for the deployment strategy that a trainer makes when it
    /// is given none: lower, and updates are smaller. <value>Default: 0.001.</value>
    /// </summary>
    [Range(0.0, 1.0, MinimumIsExclusive = true, ErrorMessage = "It must be above 0 and at most 1.")]
    public double Density { get; set; } = 1e-3;

    /// <summary>The seed of the sampler that a trainer makes when it is given none. Dropout and the like follow TorchSharp's own seed. <value>Default: 0.</value></summary>
    public ulong Seed { get; set; }

    /// <summary>Whether arrivals are evaluated before they are kept (test-then-train). <value>Default: true.</value></summary>
    public bool EvaluateArrivals { get; set; } = true;

    /// <summary>The action to take when a loss or gradient is not finite, the forward pass leaves such a value in the model, or a step fails because of certain samples. <value>Default: <see cref="NonFiniteHandling.Throw"/>.</value></summary>
    [EnumDataType(typeof(NonFiniteHandling))]
    public NonFiniteHandling NonFinite { get; set; } = NonFiniteHandling.Throw;

    /// <summary>
    /// The precision that deployed values of float32 parameters are rounded to: less precise, and updates are smaller. Trainer and replicas
    /// hold the rounded values, so they stay identical, and what rounding left out stays owed, as what was not selected does;
    /// with <see cref="GradientCompression"/>, which owes gradients, it is lost. A parameter that was never changed keeps the
    /// value that it had. Buffers and parameters of other dtypes are not rounded, and <see cref="DenseDeployment"/> allows no
    /// rounding. <value>Default: <see cref="DeployedValuePrecision.Float32"/>, no rounding.</value>
    /// </summary>
    [EnumDataType(typeof(DeployedValuePrecision))]
    public DeployedValuePrecision DeployedValuePrecision { get; set; } = DeployedValuePrecision.Float32;

    /// <summary>
    /// The fate of the values that a parameter is owed when it is frozen, by <c>requires_grad = false</c>, while it is trained. It stays
    /// as it is in either case. <value>Default: <see cref="OwedWhenFrozen.Wait"/>.</value>
    /// </summary>
    [EnumDataType(typeof(OwedWhenFrozen))]
    public OwedWhenFrozen OwedWhenFrozen { get; set; } = OwedWhenFrozen.Wait;

    /// <summary>How buffers, such as the running statistics of batch normalisation, are deployed, and parameters that something else than the optimizer moves.</summary>
    [Required]
    public BufferDeploymentOptions Buffers { get; set; } = new();

    /// <summary>The action to take where training changes a non-persistent buffer, which neither updates nor checkpoints have. <value>Default: <see cref="NonPersistentBufferHandling.Refuse"/>.</value></summary>
    [EnumDataType(typeof(NonPersistentBufferHandling))]
    public NonPersistentBufferHandling NonPersistentBuffers { get; set; } = NonPersistentBufferHandling.Refuse;

    /// <summary>A copy, so that what is changed later has no effect.</summary>
    internal ProactiveTrainerOptions Copy()
    {
        var copy = (ProactiveTrainerOptions)MemberwiseClone();
        copy.Buffers = new BufferDeploymentOptions { Mode = Buffers.Mode, Interval = Buffers.Interval, Count = Buffers.Count };
        return copy;
    }

    /// <summary>Checks every option, those of <see cref="Buffers"/> included.</summary>
    /// <exception cref="ArgumentException">One is out of range; the message names it.</exception>
    internal ProactiveTrainerOptions Validate()
    {
        OptionsValidator.Validate(this, "options");
        OptionsValidator.Validate(Buffers, "options");
        return this;
    }

    /// <summary>Checks that as many new samples as make a step due can be in a history at once.</summary>
    /// <exception cref="ArgumentException">They can't.</exception>
    internal void CheckCapacity(ISampleHistory history)
    {
        if (history.Capacity is not { } capacity || capacity >= TriggerSize) return;
        throw new ArgumentException(
            $"{nameof(ProactiveTrainerOptions)}.{nameof(TriggerSize)} is {TriggerSize}, and the {nameof(ISampleHistory.Capacity)} of the history is {capacity}: "
            + $"it never has as many new samples, so that no step would ever be due. Choose a trigger size of at most {capacity}, or a larger capacity.",
            "options");
    }
}
