using ContinuousDL.State;
using static TorchSharp.torch;

namespace ContinuousDL.Evaluation;

/// <summary>
/// Prequential evaluation of any model by its mean loss alone: regression, forecasting, or a model whose loss is computed by a
/// delegate that does not tell its predictions.
/// </summary>
/// <remarks>Predictions are not read, and may be null. Nothing is allocated per batch. Not thread-safe.</remarks>
/// <example>
/// <code>
/// var evaluator = new LossEvaluator();
/// evaluator.Observe(predictions, targets, loss.ToDouble());
/// Console.WriteLine($"{evaluator.Summary.Loss?.Fading:F3}");
/// </code>
/// </example>
public sealed class LossEvaluator : IPrequentialEvaluator
{
    private readonly int windowSize;
    private readonly double fadingFactor;
    private PrequentialEstimator loss;
    private long invalidLosses;

    /// <summary>Makes an evaluator that has seen nothing.</summary>
    /// <param name="options">How far back to look; copied. Default: as the options say.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is not what it may be.</exception>
    public LossEvaluator(PrequentialOptions? options = null)
    {
        options ??= new PrequentialOptions();
        options.Validate();
        windowSize = options.WindowSize;
        fadingFactor = options.FadingFactor;
        loss = new PrequentialEstimator(windowSize, fadingFactor);
    }

    /// <inheritdoc />
    public bool NeedsLoss => true;

    /// <inheritdoc />
    public PrequentialSummary Summary => new()
    {
        Samples = loss.Count + invalidLosses,
        Loss = loss.Estimate,
        InvalidLosses = invalidLosses,
    };

    /// <inheritdoc />
    public void Validate(Tensor? predictions, Tensor targets) => Check(predictions, targets);

    /// <inheritdoc />
    /// <exception cref="ArgumentNullException"><paramref name="targets"/> or <paramref name="meanLoss"/> is null.</exception>
    public void Observe(Tensor? predictions, Tensor targets, double? meanLoss = null)
    {
        if (meanLoss is not { } value) throw new ArgumentNullException(nameof(meanLoss), "A loss is what this evaluator measures.");
        var n = Check(predictions, targets);
        if (!double.IsFinite(value))
        {
            invalidLosses += n;
            return;
        }

        for (var i = 0L; i < n; i++) loss.Add(value);
    }

    /// <inheritdoc />
    public void Reset()
    {
        loss = new PrequentialEstimator(windowSize, fadingFactor);
        invalidLosses = 0;
    }

    string IStateful.StateKind => FormattableString.Invariant($"{nameof(LossEvaluator)}, window {windowSize}, fading factor {fadingFactor}");

    void IStateful.WriteState(BinaryWriter writer)
    {
        writer.Write(invalidLosses);
        loss.Save(writer);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var invalid = reader.ReadInt64();
        if (invalid < 0) throw new InvalidDataException($"The state of a loss evaluator is damaged: {invalid} invalid losses.");
        var read = PrequentialEstimator.Read(reader, windowSize, fadingFactor);
        return () => (loss, invalidLosses) = (read, invalid);
    }

    /// <returns>The number of samples.</returns>
    private static long Check(Tensor? predictions, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(targets);
        if (targets.IsInvalid) throw new ObjectDisposedException(nameof(targets));
        if (targets.ndim == 0) throw new ArgumentException("The targets are a scalar; they have the shape [N, ...].", nameof(targets));

        var n = targets.size(0);
        if (n == 0) throw new ArgumentException("The batch is empty.", nameof(targets));
        if (predictions is null) return n;
        if (predictions.IsInvalid) throw new ObjectDisposedException(nameof(predictions));
        if (predictions.ndim == 0)
        {
            throw new ArgumentException("The predictions are a scalar; they have the shape [N, ...].", nameof(predictions));
        }

        if (predictions.size(0) != n)
        {
            throw new ArgumentException($"There are {predictions.size(0)} predictions and {n} targets.", nameof(predictions));
        }

        return n;
    }
}
