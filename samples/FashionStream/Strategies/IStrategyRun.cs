using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>A strategy at work: a serving model, and what is done to it as samples arrive.</summary>
internal interface IStrategyRun : IDisposable
{
    /// <summary>The model that answers requests: what every accuracy is measured with. It stays the run's.</summary>
    nn.Module<Tensor, Tensor> Serving { get; }

    /// <summary>Takes up samples that the serving model has been tested on, and makes what it can of them.</summary>
    /// <param name="images">float32 <c>[N, channels, height, width]</c>. It stays the caller's.</param>
    /// <param name="labels">int64 <c>[N]</c>. It stays the caller's.</param>
    /// <param name="cancellation">Ends a long training early; what is deployed stays as it was.</param>
    /// <returns>What was done.</returns>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    Work Learn(Tensor images, Tensor labels, CancellationToken cancellation);

    /// <summary>
    /// Whether the serving model is, to the last bit, what the trainer takes it for: the same state, and the same outputs
    /// for the same images.
    /// </summary>
    /// <param name="images">float32 <c>[N, channels, height, width]</c>. It stays the caller's.</param>
    bool IsReplicaIdentical(Tensor images);
}

/// <summary>What a strategy did with some arrivals.</summary>
/// <param name="Steps">Optimizer steps taken.</param>
/// <param name="Updates">Updates deployed.</param>
/// <param name="Bytes">The size of these updates: indices and values.</param>
/// <param name="Duration">Time for all of it: training, compressing, deploying.</param>
internal readonly record struct Work(int Steps, int Updates, long Bytes, TimeSpan Duration)
{
    /// <summary>Both together.</summary>
    public static Work operator +(Work left, Work right) =>
        new(left.Steps + right.Steps, left.Updates + right.Updates, left.Bytes + right.Bytes, left.Duration + right.Duration);
}
