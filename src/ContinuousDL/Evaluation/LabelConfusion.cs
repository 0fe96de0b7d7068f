namespace ContinuousDL.Evaluation;

/// <summary>
/// For each label, how often it was predicted for samples that have it and for samples that have it not: a confusion matrix of
/// 2×2 for each. It belongs to a <see cref="MultiLabelEvaluator"/> and goes on counting with it.
/// </summary>
/// <remarks>
/// Every label of a sample for which the model gave NaN counts as wrong: as missed where the sample has it, as predicted where
/// not.
/// </remarks>
public sealed class LabelConfusion
{
    private readonly Label[] labels;

    internal LabelConfusion(int labelCount) => labels = new Label[labelCount];

    private LabelConfusion(Label[] labels, long total) => (this.labels, Total) = (labels, total);

    /// <summary>The number of labels, L.</summary>
    public int LabelCount => labels.Length;

    /// <summary>The number of samples.</summary>
    public long Total { get; private set; }

    /// <summary>The number of samples that have a label and for which it was predicted.</summary>
    /// <param name="label">The label, 0 to L−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such label.</exception>
    public long TruePositives(int label) => Of(label).TruePositives;

    /// <summary>The number of samples that have a label not and for which it was predicted.</summary>
    /// <param name="label">The label, 0 to L−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such label.</exception>
    public long FalsePositives(int label) => Of(label).FalsePositives;

    /// <summary>The number of samples that have a label and for which it was not predicted.</summary>
    /// <param name="label">The label, 0 to L−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such label.</exception>
    public long FalseNegatives(int label) => Of(label).FalseNegatives;

    /// <summary>The number of samples that have a label not and for which it was not predicted.</summary>
    /// <param name="label">The label, 0 to L−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such label.</exception>
    public long TrueNegatives(int label) => Total - Of(label).Others;

    /// <summary>The share of the samples that a label was predicted for and that have it; NaN when it never was.</summary>
    /// <param name="label">The label, 0 to L−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such label.</exception>
    public double Precision(int label) => Of(label).Precision;

    /// <summary>The share of the samples with a label for which it was predicted; NaN when there were none.</summary>
    /// <param name="label">The label, 0 to L−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such label.</exception>
    public double Recall(int label) => Of(label).Recall;

    /// <summary>
    /// The harmonic mean of <see cref="Precision"/> and <see cref="Recall"/>; NaN when the label neither occurred nor was predicted.
    /// </summary>
    /// <param name="label">The label, 0 to L−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such label.</exception>
    public double F1(int label) => Of(label).F1;

    /// <summary>The precision over all labels together (micro average): the share of the predicted labels that are right.</summary>
    public double MicroPrecision => Sum().Precision;

    /// <summary>The recall over all labels together (micro average): the share of the labels there are that were predicted.</summary>
    public double MicroRecall => Sum().Recall;

    /// <summary>The harmonic mean of <see cref="MicroPrecision"/> and <see cref="MicroRecall"/>.</summary>
    public double MicroF1 => Sum().F1;

    /// <summary>Counts a sample.</summary>
    /// <param name="actual">Whether it has each of the L labels.</param>
    /// <param name="predicted">Whether each was predicted.</param>
    internal void Add(ReadOnlySpan<bool> actual, ReadOnlySpan<bool> predicted)
    {
        for (var l = 0; l < labels.Length; l++)
        {
            ref var label = ref labels[l];
            if (actual[l] && predicted[l]) label.TruePositives++;
            else if (predicted[l]) label.FalsePositives++;
            else if (actual[l]) label.FalseNegatives++;
        }

        Total++;
    }

    /// <summary>Counts a sample all of whose labels are wrong.</summary>
    internal void AddWrong(ReadOnlySpan<bool> actual)
    {
        for (var l = 0; l < labels.Length; l++)
        {
            if (actual[l]) labels[l].FalseNegatives++;
            else labels[l].FalsePositives++;
        }

        Total++;
    }

    internal void Save(BinaryWriter writer)
    {
        foreach (var label in labels)
        {
            writer.Write(label.TruePositives);
            writer.Write(label.FalsePositives);
            writer.Write(label.FalseNegatives);
        }
    }

    /// <summary>Reads the counts of <paramref name="total"/> samples.</summary>
    /// <exception cref="InvalidDataException">They are not the counts of that many samples.</exception>
    internal static LabelConfusion Read(BinaryReader reader, int labelCount, long total)
    {
        // A list grows with what is there to be read; an array would be as long as a damaged state says.
        var labels = new List<Label>();
        while (labels.Count < labelCount)
        {
            var label = new Label
            {
                TruePositives = reader.ReadInt64(),
                FalsePositives = reader.ReadInt64(),
                FalseNegatives = reader.ReadInt64(),
            };
            if (!label.IsOf(total))
            {
                throw new InvalidDataException($"The saved counts of label {labels.Count} are damaged: they are not those of {total} samples.");
            }

            labels.Add(label);
        }

        return new LabelConfusion([.. labels], total);
    }

    private Label Sum()
    {
        var sum = default(Label);
        foreach (var label in labels)
        {
            sum.TruePositives += label.TruePositives;
            sum.FalsePositives += label.FalsePositives;
            sum.FalseNegatives += label.FalseNegatives;
        }

        return sum;
    }

    private Label Of(int label)
    {
        if ((uint)label < (uint)labels.Length) return labels[label];
        throw new ArgumentOutOfRangeException(nameof(label), label, $"There are {LabelCount} labels, 0 to {LabelCount - 1}.");
    }

    private struct Label
    {
        public long TruePositives, FalsePositives, FalseNegatives;

        public readonly long Others => TruePositives + FalsePositives + FalseNegatives;

        public readonly double Precision => (double)TruePositives / (TruePositives + FalsePositives);

        public readonly double Recall => (double)TruePositives / (TruePositives + FalseNegatives);

        public readonly double F1 => 2.0 * TruePositives / ((2 * TruePositives) + FalsePositives + FalseNegatives);

        public readonly bool IsOf(long total) => TruePositives >= 0 && FalsePositives >= 0 && FalseNegatives >= 0
            && TruePositives <= total && FalsePositives <= total - TruePositives && FalseNegatives <= total - TruePositives - FalsePositives;
    }
}
