using ContinuousDL.State;
using static TorchSharp.torch;

namespace ContinuousDL.Evaluation;

/// <summary>
/// Measures a model on a stream by testing it on every sample before it is trained on it: prequential, or test-then-train,
/// evaluation (Gama, Sebastião and Rodrigues 2013, "On evaluating stream learning algorithms").
/// </summary>
/// <remarks>
/// A batch that is refused changes nothing, so that a caller can correct it and observe it again. Its state is everything that was
/// counted. Implementations need not be thread-safe.
/// </remarks>
public interface IPrequentialEvaluator : IStateful
{
    /// <summary>The measures so far.</summary>
    PrequentialSummary Summary { get; }

    /// <summary>Whether it refuses null for the predictions. <value>False, unless an implementation says otherwise.</value></summary>
    bool NeedsPredictions => false;

    /// <summary>Whether it refuses null for the mean loss. <value>False, unless an implementation says otherwise.</value></summary>
    bool NeedsLoss => false;

    /// <summary>
    /// Checks a batch, and throws what <see cref="Observe"/> would throw about it, without counting anything. Done before the
    /// loss is computed, it gives a clear error where a loss function would fail on the targets (on CUDA, for good).
    /// </summary>
    /// <param name="predictions">As in <see cref="Observe"/>.</param>
    /// <param name="targets">As in <see cref="Observe"/>.</param>
    void Validate(Tensor? predictions, Tensor targets);

    /// <summary>Counts a batch of arrivals that the model has not been trained on.</summary>
    /// <param name="predictions">
    /// The model's predictions, <c>[N, ...]</c>, on any device. Stays the caller's. Null where a loss is all there is; an
    /// evaluator that needs predictions refuses that.
    /// </param>
    /// <param name="targets">The right answers, <c>[N, ...]</c>, on any device. They stay the caller's.</param>
    /// <param name="meanLoss">The mean loss of the samples that count; null where it was not computed.</param>
    /// <exception cref="ArgumentNullException">Something is null that this evaluator needs.</exception>
    /// <exception cref="ArgumentException">
    /// The batch is empty, the counts differ, or a shape, dtype or value does not fit. Nothing was counted.
    /// </exception>
    /// <exception cref="ObjectDisposedException">One of the tensors is disposed.</exception>
    void Observe(Tensor? predictions, Tensor targets, double? meanLoss = null);

    /// <summary>Forgets everything that was counted.</summary>
    void Reset();
}
