using ContinuousDL.Samples.FashionStream.Strategies;

namespace ContinuousDL.Samples.FashionStream.Running;

/// <summary>What came of one strategy.</summary>
/// <param name="Strategy">The strategy.</param>
/// <param name="Curve">Its prequential accuracy over the stream.</param>
/// <param name="TestAccuracy">The share of the test samples that the deployed model gets right at the end, in [0, 1].</param>
/// <param name="Work">Steps, updates, bytes and time, in all.</param>
/// <param name="ModelBytes">The size of the whole model: 4 bytes for each parameter.</param>
/// <param name="ReplicaIdentical">Whether the replica ended up bit-identical to the trainer's deployed model.</param>
/// <param name="StreamLength">How many samples the whole stream has; more than the curve's where the run was interrupted.</param>
internal sealed record StrategyResult(
    Strategy Strategy,
    PrequentialCurve Curve,
    double TestAccuracy,
    Work Work,
    long ModelBytes,
    bool ReplicaIdentical,
    int StreamLength)
{
    /// <summary>The share of the arrivals that the deployed model got right before it was trained on them, in [0, 1].</summary>
    public double PrequentialAccuracy => Curve.Accuracy;

    /// <summary>Whether the stream was cut short.</summary>
    public bool Interrupted => Curve.Count < StreamLength;

    /// <summary>Mean time of an optimizer step, with all that belongs to it; 0 where there was none.</summary>
    public double MillisecondsPerStep => Work.Steps == 0 ? 0 : Work.Duration.TotalMilliseconds / Work.Steps;

    /// <summary>Mean size of an update, indices and values; 0 where there was none.</summary>
    public double BytesPerUpdate => Work.Updates == 0 ? 0 : (double)Work.Bytes / Work.Updates;

    /// <summary>How many times smaller than the whole model an update is; null where there was none.</summary>
    public double? Reduction => Work.Bytes == 0 ? null : ModelBytes / BytesPerUpdate;
}
