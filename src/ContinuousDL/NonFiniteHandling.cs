namespace ContinuousDL;

/// <summary>What a trainer does with a step whose loss or gradient is not finite, or whose forward pass leaves such a value in a buffer. In either case model, moments and residuals stay as they were.</summary>
public enum NonFiniteHandling
{
    /// <summary>Throws a <see cref="NonFiniteException"/>. The new samples stay new: the next step takes them again.</summary>
    Throw,

    /// <summary>Skips the step and says so in the <see cref="StepResult"/>. The new samples count as trained on, so that one bad sample can't stop the training.</summary>
    Skip,
}
