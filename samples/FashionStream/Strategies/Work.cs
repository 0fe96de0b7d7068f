namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>What a strategy did with some arrivals.</summary>
/// <param name="Steps">Optimizer steps taken.</param>
/// <param name="Updates">Updates deployed.</param>
/// <param name="Bytes">The size of these updates: indices and values.</param>
/// <param name="Duration">Time for all of it: training, compressing, applying to the replica.</param>
internal readonly record struct Work(int Steps, int Updates, long Bytes, TimeSpan Duration)
{
    /// <summary>Both together.</summary>
    public static Work operator +(Work left, Work right) =>
        new(left.Steps + right.Steps, left.Updates + right.Updates, left.Bytes + right.Bytes, left.Duration + right.Duration);
}
