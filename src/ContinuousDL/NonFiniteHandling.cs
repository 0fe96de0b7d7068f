using ContinuousDL.Failures;

namespace ContinuousDL;

/// <summary>
/// The way in which a trainer treats a step whose loss or gradient is not finite, whose forward pass leaves such a value in the model, or that fails because of certain samples. In either
/// case model, moments and residuals stay as they were.
/// </summary>
/// <remarks>
/// In either case, too, the trainer looks for the samples that are the reason and puts them into quarantine
/// (<see cref="ProactiveTrainer.QuarantinedSamples"/>), so that a bad sample costs one step. The other new samples of the batch
/// stay new: the next step takes them. Where no sample is the reason, the new samples count as seen.
/// </remarks>
public enum NonFiniteHandling
{
    /// <summary>Throws a <see cref="NonFiniteException"/>, or a <see cref="BatchFailedException"/> where an exception was the reason.</summary>
    Throw,

    /// <summary>Skips the step and says so in the <see cref="StepResult"/>. An exception that no sample is the reason of is thrown all the same.</summary>
    Skip,
}
