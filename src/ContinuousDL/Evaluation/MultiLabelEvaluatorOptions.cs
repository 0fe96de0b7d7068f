using System.ComponentModel.DataAnnotations;

namespace ContinuousDL.Evaluation;

/// <summary>The measures of a <see cref="MultiLabelEvaluator"/>.</summary>
public sealed class MultiLabelEvaluatorOptions : PrequentialOptions
{
    /// <summary>The number of labels that a sample can have, L. When it is null, the first predictions tell it.</summary>
    /// <value>Default: null. Otherwise at least 1.</value>
    [Range(1, int.MaxValue)]
    public int? LabelCount { get; set; }

    /// <summary>
    /// A label is predicted when its probability, the sigmoid of its logit, is above this. Lower: fewer labels are missed, more
    /// are predicted that are not there.
    /// </summary>
    /// <value>Default: 0.5, a logit of 0. Above 0 and below 1.</value>
    [Range(0.0, 1.0, MinimumIsExclusive = true, MaximumIsExclusive = true)]
    public double Threshold { get; set; } = 0.5;

    /// <exception cref="ArgumentOutOfRangeException">A value is not what it may be.</exception>
    internal new void Validate()
    {
        base.Validate();
        if (LabelCount is < 1) throw new ArgumentOutOfRangeException(nameof(LabelCount), LabelCount, "There is at least one label.");
        if (!(Threshold is > 0 and < 1))
        {
            throw new ArgumentOutOfRangeException(nameof(Threshold), Threshold, "The threshold is a probability above 0 and below 1.");
        }
    }
}
