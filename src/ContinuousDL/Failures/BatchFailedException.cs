namespace ContinuousDL.Failures;

/// <summary>
/// The model, the loss, the backward pass or the history threw an exception on a batch. The model, the optimizer's moments and
/// the residuals are as they were before the step, and the next step takes other samples.
/// </summary>
public sealed class BatchFailedException : InvalidOperationException
{
    internal BatchFailedException(string message, Exception inner, IReadOnlyList<QuarantinedSample> quarantined)
        : base(message, inner) => Quarantined = quarantined;

    /// <summary>The samples that were found to be the reason, and are in quarantine now; none where it is not certain samples.</summary>
    public IReadOnlyList<QuarantinedSample> Quarantined { get; }
}
