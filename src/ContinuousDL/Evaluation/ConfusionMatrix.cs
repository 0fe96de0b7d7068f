namespace ContinuousDL.Evaluation;

/// <summary>
/// How often each class was predicted for samples of each class. It belongs to a <see cref="ClassificationEvaluator"/> and
/// goes on counting with it.
/// </summary>
/// <remarks>
/// A sample for which the model gave NaN has no predicted class: it is counted in <see cref="WithoutPrediction"/>,
/// <see cref="Actual"/> and <see cref="Total"/>, and so lowers the recall of its class.
/// </remarks>
public sealed class ConfusionMatrix
{
    private readonly long[] counts; // [C, C + 1]: a row for each actual class; its last column is for no prediction.

    internal ConfusionMatrix(int classCount)
    {
        ClassCount = classCount;
        counts = new long[classCount * (classCount + 1)];
    }

    /// <summary>The number of classes, C.</summary>
    public int ClassCount { get; }

    /// <summary>The number of samples.</summary>
    public long Total { get; private set; }

    /// <summary>The number of samples of one class for which another, or the same, was predicted.</summary>
    /// <param name="actual">The class of the samples, 0 to C−1.</param>
    /// <param name="predicted">The predicted class, 0 to C−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public long this[int actual, int predicted] => counts[Start(actual) + Check(predicted, nameof(predicted))];

    /// <summary>How often each class was predicted for samples of one class.</summary>
    /// <param name="actual">The class of the samples, 0 to C−1.</param>
    /// <returns>C numbers; a view of the matrix, not a copy.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public ReadOnlySpan<long> Row(int actual) => counts.AsSpan(Start(actual), ClassCount);

    /// <summary>How many samples of each class one class was predicted for.</summary>
    /// <param name="predicted">The predicted class, 0 to C−1.</param>
    /// <returns>C numbers; a copy.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public long[] Column(int predicted)
    {
        Check(predicted, nameof(predicted));
        var column = new long[ClassCount];
        for (var actual = 0; actual < ClassCount; actual++) column[actual] = this[actual, predicted];
        return column;
    }

    /// <summary>The number of samples of one class.</summary>
    /// <param name="actual">The class, 0 to C−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public long Actual(int actual)
    {
        var sum = WithoutPrediction(actual);
        foreach (var count in Row(actual)) sum += count;
        return sum;
    }

    /// <summary>The number of samples that one class was predicted for.</summary>
    /// <param name="predicted">The predicted class, 0 to C−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public long Predicted(int predicted)
    {
        Check(predicted, nameof(predicted));
        var sum = 0L;
        for (var actual = 0; actual < ClassCount; actual++) sum += this[actual, predicted];
        return sum;
    }

    /// <summary>The number of samples of one class for which the model gave NaN.</summary>
    /// <param name="actual">The class, 0 to C−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public long WithoutPrediction(int actual) => counts[Start(actual) + ClassCount];

    /// <summary>The share of the samples that one class was predicted for and that are of it; NaN when it never was.</summary>
    /// <param name="class">The class, 0 to C−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public double Precision(int @class) => (double)this[@class, @class] / Predicted(@class);

    /// <summary>The share of the samples of one class for which it was predicted; NaN when there were none.</summary>
    /// <param name="class">The class, 0 to C−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public double Recall(int @class) => (double)this[@class, @class] / Actual(@class);

    /// <summary>
    /// The harmonic mean of <see cref="Precision"/> and <see cref="Recall"/>; NaN when the class neither occurred nor was predicted.
    /// </summary>
    /// <param name="class">The class, 0 to C−1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such class.</exception>
    public double F1(int @class) => 2.0 * this[@class, @class] / (Actual(@class) + Predicted(@class));

    /// <summary>Counts a sample; a negative <paramref name="predicted"/> stands for no prediction.</summary>
    internal void Add(int actual, int predicted)
    {
        counts[Start(actual) + (predicted < 0 ? ClassCount : predicted)]++;
        Total++;
    }

    internal void Save(BinaryWriter writer)
    {
        foreach (var count in counts) writer.Write(count);
    }

    /// <summary>Reads the counts of <paramref name="total"/> samples.</summary>
    /// <exception cref="InvalidDataException">They are not the counts of that many samples.</exception>
    internal static ConfusionMatrix Read(BinaryReader reader, int classCount, long total)
    {
        var matrix = new ConfusionMatrix(classCount) { Total = total };
        var rest = total;
        foreach (ref var count in matrix.counts.AsSpan())
        {
            count = reader.ReadInt64();
            if (count < 0 || count > rest) throw Damaged(total);
            rest -= count;
        }

        return rest == 0 ? matrix : throw Damaged(total);
    }

    private static InvalidDataException Damaged(long total) =>
        new($"A saved confusion matrix is damaged: its counts are not those of {total} samples.");

    private int Start(int actual) => Check(actual, nameof(actual)) * (ClassCount + 1);

    private int Check(int @class, string name)
    {
        if ((uint)@class < (uint)ClassCount) return @class;
        throw new ArgumentOutOfRangeException(name, @class, $"There are {ClassCount} classes, 0 to {ClassCount - 1}.");
    }
}
