namespace ContinuousDL.Evaluation;

/// <summary>The measures of a prequential evaluation. A measure is null as long as no sample was counted for it.</summary>
public readonly record struct PrequentialSummary
{
    /// <summary>The number of samples that count; those with the target to ignore are not among them.</summary>
    public long Samples { get; init; }

    /// <summary>The number of samples whose target said to ignore them.</summary>
    public long IgnoredSamples { get; init; }

    /// <summary>
    /// The mean loss per sample. As an evaluator is told the mean loss of a batch, each sample of the batch counts with that
    /// mean; this makes no difference to <see cref="PrequentialEstimate.Cumulative"/>, nor where samples are observed one by one.
    /// </summary>
    public PrequentialEstimate? Loss { get; init; }

    /// <summary>
    /// The share of samples whose predicted class was right, 0 to 1; with several labels a sample, of those whose labels were all
    /// right (subset accuracy, exact match ratio). Null where no classes are predicted.
    /// </summary>
    public PrequentialEstimate? Accuracy { get; init; }

    /// <summary>
    /// With several labels a sample: the share of its labels that were right, 0 to 1, which is 1 minus the Hamming loss. Null
    /// elsewhere.
    /// </summary>
    public PrequentialEstimate? LabelAccuracy { get; init; }

    /// <summary>
    /// The share of samples whose class was among the k with the largest logits, 0 to 1. Null where no classes are predicted,
    /// or no more than k.
    /// </summary>
    public PrequentialEstimate? TopKAccuracy { get; init; }

    /// <summary>The number of samples for which the model gave NaN. They count as wrong in the accuracies.</summary>
    public long InvalidPredictions { get; init; }

    /// <summary>The number of samples whose loss was NaN or infinite. They are left out of <see cref="Loss"/>.</summary>
    public long InvalidLosses { get; init; }
}
