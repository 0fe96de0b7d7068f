namespace ContinuousDL.Evaluation;

/// <summary>
/// Keeps one <see cref="PrequentialEstimate"/> up to date: constant time per value (amortised), no allocation.
/// </summary>
internal sealed class PrequentialEstimator(int windowSize, double fadingFactor)
{
    // A ring buffer. The places from the next one on hold suffix sums of the values of the round before, not the values: the
    // sum of those still in the window is then one read, and the window's sum never comes from subtracting. A running sum that
    // adds the new and subtracts the old would keep the rounding error of a huge value long after it has left the window.
    private readonly double[] window = new double[windowSize];
    private double windowSumOfThisRound;
    private double cumulativeSum;
    private double fadingSum;
    private double fadingWeight;

    /// <summary>How many values were added.</summary>
    public long Count { get; private set; }

    /// <summary>The sum of all values.</summary>
    public double Sum => cumulativeSum;

    /// <summary>The estimate; null when there were no values.</summary>
    public PrequentialEstimate? Estimate
    {
        get
        {
            if (Count == 0) return null;
            var windowSum = windowSumOfThisRound + window[(int)(Count % window.Length)];
            return new PrequentialEstimate(cumulativeSum / Count, fadingSum / fadingWeight, windowSum / Math.Min(Count, window.Length));
        }
    }

    public void Add(double value)
    {
        var place = (int)(Count % window.Length);
        window[place] = value;
        windowSumOfThisRound += value;
        if (place == window.Length - 1) StartRound();
        cumulativeSum += value;
        fadingSum = value + fadingFactor * fadingSum;
        fadingWeight = 1 + fadingFactor * fadingWeight;
        Count++;
    }

    public void Save(BinaryWriter writer)
    {
        writer.Write(Count);
        writer.Write(cumulativeSum);
        writer.Write(fadingSum);
        writer.Write(fadingWeight);
        writer.Write(windowSumOfThisRound);
        foreach (var value in window) writer.Write(value);
    }

    /// <summary>Reads what <see cref="Save"/> wrote, with the same window and fading factor.</summary>
    /// <exception cref="InvalidDataException">It is damaged.</exception>
    /// <exception cref="EndOfStreamException">It is cut short.</exception>
    public static PrequentialEstimator Read(BinaryReader reader, int windowSize, double fadingFactor)
    {
        var estimator = new PrequentialEstimator(windowSize, fadingFactor)
        {
            Count = reader.ReadInt64(),
            cumulativeSum = reader.ReadDouble(),
            fadingSum = reader.ReadDouble(),
            fadingWeight = reader.ReadDouble(),
            windowSumOfThisRound = reader.ReadDouble(),
        };
        // The weight is 0 for no values; from the first one on it lies between 1 and the number of values.
        var leastWeight = Math.Min(estimator.Count, 1);
        if (estimator.Count < 0 || !(estimator.fadingWeight >= leastWeight && estimator.fadingWeight <= estimator.Count))
        {
            throw new InvalidDataException(
                $"A saved estimate is damaged: {estimator.Count} values with a weight of {estimator.fadingWeight}.");
        }

        for (var i = 0; i < windowSize; i++) estimator.window[i] = reader.ReadDouble();
        return estimator;
    }

    private void StartRound()
    {
        for (var i = window.Length - 2; i >= 0; i--) window[i] += window[i + 1];
        windowSumOfThisRound = 0;
    }
}
