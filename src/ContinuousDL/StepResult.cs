using ContinuousDL.Failures;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL;

/// <summary>The result of one step of a <see cref="ProactiveTrainer"/>.</summary>
/// <remarks>It owns its update: disposing the result disposes the update. Keep the result, or leave it undisposed, while the update is in use.</remarks>
public sealed class StepResult : IDisposable
{
    internal StepResult(
        double loss, int newSamples, int historicalSamples, ModelUpdate? update, string? skipReason, StepTimings timings, IReadOnlyList<QuarantinedSample> quarantined)
    {
        Loss = loss;
        NewSamples = newSamples;
        HistoricalSamples = historicalSamples;
        Update = update;
        SkipReason = skipReason;
        Timings = timings;
        Quarantined = quarantined;
    }

    /// <summary>The loss of the mini-batch, before the step; NaN where it could not be computed.</summary>
    public double Loss { get; }

    /// <summary>How many samples of the mini-batch were new.</summary>
    public int NewSamples { get; }

    /// <summary>How many samples of the mini-batch were historical.</summary>
    public int HistoricalSamples { get; }

    /// <summary>The changes of the deployed model, to be sent to the replicas; null when the step was skipped.</summary>
    public ModelUpdate? Update { get; }

    /// <summary>How many coordinates of the deployed model changed.</summary>
    public int CoordinatesChanged => Update?.Count ?? 0;

    /// <summary>Whether the step was skipped, because the batch could not be trained on.</summary>
    public bool IsSkipped => SkipReason is not null;

    /// <summary>Why the step was skipped; null when it was not.</summary>
    public string? SkipReason { get; }

    /// <summary>
    /// The samples that this step found to be the reason why it had to be skipped, and that are in quarantine now (see
    /// <see cref="ProactiveTrainer.QuarantinedSamples"/>); mostly none.
    /// </summary>
    public IReadOnlyList<QuarantinedSample> Quarantined { get; }

    /// <summary>How long each phase took. The search for samples to put into quarantine is part of none.</summary>
    public StepTimings Timings { get; }

    /// <summary>Disposes the update.</summary>
    public void Dispose() => Update?.Dispose();
}
