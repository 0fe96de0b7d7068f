namespace ContinuousDL.Samples.FashionStream.Running;

/// <summary>Prequential (test-then-train) accuracy over a stream: which of the arrivals were right, in their order.</summary>
internal sealed class PrequentialCurve
{
    private readonly List<int> correctUpTo = [0];

    /// <summary>The number of arrivals so far.</summary>
    public int Count => correctUpTo.Count - 1;

    /// <summary>The share that was right, in [0, 1]; 0 before the first arrival.</summary>
    public double Accuracy => AccuracyUpTo(Count);

    /// <summary>Notes whether the next arrival was right.</summary>
    public void Add(bool correct) => correctUpTo.Add(correctUpTo[^1] + (correct ? 1 : 0));

    /// <summary>The share of the first <paramref name="count"/> arrivals that was right.</summary>
    public double AccuracyUpTo(int count) => count == 0 ? 0 : (double)correctUpTo[count] / count;

    /// <summary>The share of the <paramref name="window"/> arrivals that end at <paramref name="count"/> that was right.</summary>
    public double AccuracyInWindow(int count, int window)
    {
        var first = Math.Max(0, count - window);
        return count == first ? 0 : (double)(correctUpTo[count] - correctUpTo[first]) / (count - first);
    }
}
