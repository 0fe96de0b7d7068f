using System.ComponentModel.DataAnnotations;

namespace ContinuousDL.Evaluation;

/// <summary>The measures of a <see cref="ClassificationEvaluator"/>.</summary>
public sealed class ClassificationEvaluatorOptions : PrequentialOptions
{
    /// <summary>The most classes that a confusion matrix can be asked for: 2^14. It takes 2 GiB.</summary>
    public const int MaxConfusionMatrixClasses = 1 << 14;

    /// <summary>The number of classes, C. When it is null, the first predictions tell it.</summary>
    /// <value>Default: null. Otherwise at least 1, and 2 with <see cref="BinaryLogits"/>.</value>
    [Range(1, int.MaxValue)]
    public int? ClassCount { get; set; }

    /// <summary>
    /// The k of the top-k accuracy: a sample counts as right when fewer than k classes have a larger logit than its own.
    /// There is no top-k accuracy where there are no more than k classes: it would always be 1.
    /// </summary>
    /// <value>Default: 5. At least 1.</value>
    [Range(1, int.MaxValue)]
    public int TopK { get; set; } = 5;

    /// <summary>
    /// A target of this value is no class: the sample (the pixel, the token) is not counted, as in PyTorch's cross entropy. Null
    /// for no such value. Soft labels have none.
    /// </summary>
    /// <value>Default: −100.</value>
    public long? IgnoreIndex { get; set; } = -100;

    /// <summary>
    /// Whether a prediction is one logit z, that of class 1 of 2, as a binary cross entropy with logits takes it: the predicted
    /// class is 1 when z is above 0, otherwise 0. Predictions are then <c>[N]</c> or <c>[N, 1]</c>, targets <c>[N]</c> or
    /// <c>[N, 1]</c> of any dtype, with the values 0 and 1; or both are of one shape <c>[N, d1, ...]</c>, and each element is a
    /// sample of its own.
    /// </summary>
    /// <value>Default: false.</value>
    public bool BinaryLogits { get; set; }

    /// <summary>The most classes that a confusion matrix is kept for: it takes 8·C² bytes. 0 keeps none.</summary>
    /// <value>Default: 1,000. From 0 to <see cref="MaxConfusionMatrixClasses"/>.</value>
    [Range(0, MaxConfusionMatrixClasses)]
    public int ConfusionMatrixClasses { get; set; } = 1000;

    /// <exception cref="ArgumentOutOfRangeException">A value is not what it may be.</exception>
    internal new void Validate()
    {
        base.Validate();
        if (ClassCount is < 1)
        {
            throw new ArgumentOutOfRangeException(nameof(ClassCount), ClassCount, "There is at least one class.");
        }

        if (BinaryLogits && ClassCount is not (null or 2))
        {
            throw new ArgumentOutOfRangeException(nameof(ClassCount), ClassCount, $"With {nameof(BinaryLogits)} there are 2 classes.");
        }

        if (TopK < 1)
        {
            throw new ArgumentOutOfRangeException(nameof(TopK), TopK, "The k of a top-k accuracy is at least 1.");
        }

        if (ConfusionMatrixClasses is < 0 or > MaxConfusionMatrixClasses)
        {
            throw new ArgumentOutOfRangeException(nameof(ConfusionMatrixClasses), ConfusionMatrixClasses,
                $"A confusion matrix is kept for 0 to {MaxConfusionMatrixClasses} classes.");
        }
    }
}
