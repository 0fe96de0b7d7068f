using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>A strategy at work: a replica that serves, and what is done to it as samples arrive.</summary>
internal interface IStrategyRun : IDisposable
{
    /// <summary>Answers as the replica does: what every accuracy is measured with.</summary>
    /// <param name="images">float32 <c>[N, channels, height, width]</c>. It stays the caller's.</param>
    /// <returns>Logits <c>[N, classes]</c>, owned by the caller.</returns>
    Tensor Predict(Tensor images);

    /// <summary>Answers with the model that the trainer takes the replica for.</summary>
    /// <param name="images">float32 <c>[N, channels, height, width]</c>. It stays the caller's.</param>
    /// <returns>Logits <c>[N, classes]</c>, owned by the caller.</returns>
    Tensor PredictAsTrainer(Tensor images);

    /// <summary>Whether the replica's digest, computed anew from all of its values, is that of the trainer's deployed model.</summary>
    bool IsDigestIdentical();

    /// <summary>Takes up samples that the replica has been tested on, and makes what it can of them.</summary>
    /// <param name="images">float32 <c>[N, channels, height, width]</c>. It stays the caller's.</param>
    /// <param name="labels">int64 <c>[N]</c>. It stays the caller's.</param>
    /// <param name="cancellation">Ends a long training early; what is deployed stays as it was.</param>
    /// <returns>What was done.</returns>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    Work Learn(Tensor images, Tensor labels, CancellationToken cancellation);
}
