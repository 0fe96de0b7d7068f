using ContinuousDL.State;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Evaluation;

/// <summary>
/// Prequential evaluation of a classifier: accuracy, top-k accuracy, mean loss and the confusion matrix.
/// </summary>
/// <remarks>
/// <para>
/// It takes what PyTorch's cross entropy takes. Predictions are logits (or anything that is larger for a likelier class),
/// <c>[N, C]</c>, of a floating-point dtype, and targets are class indices, <c>[N]</c>, of an integer dtype. The predicted class
/// is that of the largest logit, the lowest class among equals. A row that holds a NaN predicts no class and counts as wrong.
/// </para>
/// <para>
/// Pixels, tokens and the like have further axes: predictions <c>[N, C, d1, ...]</c> and targets <c>[N, d1, ...]</c>. Each pixel
/// or token is then a sample of its own, in every measure, in the window and in the fading: accuracy is that of all pixels
/// together. Those with the target to ignore are not counted. Logits with the classes last, <c>[N, T, C]</c>, are to be
/// transposed, as for the loss.
/// </para>
/// <para>
/// Soft labels are the probabilities of the classes: floating-point targets of the shape of the predictions, at least 0, with the
/// sum 1 over the classes. The right class is the most probable one, the lowest among equals; how sure the target is of it goes
/// into the loss alone. <see cref="ClassificationEvaluatorOptions.BinaryLogits"/> has other shapes. For labels that do not
/// exclude each other there is <see cref="MultiLabelEvaluator"/>.
/// </para>
/// <para>
/// Logits <c>[N, C]</c> of float32 or float64 and targets <c>[N]</c> of int64, in contiguous CPU memory, are read where they are:
/// no tensor is made, nothing is allocated. Logits on another device are reduced there, and only the results come to the CPU. Not thread-safe.
/// </para>
/// </remarks>
/// <example>
/// <code>
/// var evaluator = new ClassificationEvaluator();
/// evaluator.Observe(model.call(inputs), targets);
/// Console.WriteLine($"{evaluator.Summary.Accuracy?.Window:P1} of the newest samples");
/// </code>
/// </example>
public sealed class ClassificationEvaluator : IPrequentialEvaluator
{
    private readonly int windowSize;
    private readonly double fadingFactor;
    private readonly int topK;
    private readonly long? ignoreIndex;
    private readonly bool binaryLogits;
    private readonly int confusionMatrixClasses;
    private readonly int givenClassCount;

    private Counts counts;

    // Scratch space of a batch; no part of the state.
    private long[] labels = [];
    private int[] predicted = [];
    private bool[] amongTopK = [];

    /// <summary>Makes an evaluator that has seen nothing.</summary>
    /// <param name="options">The measures to take; copied. Default: as the options say.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is not what it may be.</exception>
    public ClassificationEvaluator(ClassificationEvaluatorOptions? options = null)
    {
        options ??= new ClassificationEvaluatorOptions();
        options.Validate();
        windowSize = options.WindowSize;
        fadingFactor = options.FadingFactor;
        topK = options.TopK;
        ignoreIndex = options.IgnoreIndex;
        binaryLogits = options.BinaryLogits;
        confusionMatrixClasses = options.ConfusionMatrixClasses;
        givenClassCount = options.ClassCount ?? (binaryLogits ? 2 : 0);
        counts = NewCounts();
    }

    /// <summary>The number of classes, C; null as long as it was neither given nor seen.</summary>
    public int? ClassCount => counts.ClassCount == 0 ? null : counts.ClassCount;

    /// <summary>
    /// How often each class was predicted for samples of each class. It goes on counting with the evaluator, until
    /// <see cref="Reset"/> or <see cref="SavedState.LoadState"/> puts another in its place. Null as long as the number of classes is not
    /// known, or when it is above <see cref="ClassificationEvaluatorOptions.ConfusionMatrixClasses"/>.
    /// </summary>
    public ConfusionMatrix? ConfusionMatrix => counts.Confusion;

    /// <inheritdoc />
    public PrequentialSummary Summary => new()
    {
        Samples = counts.Accuracy.Count,
        IgnoredSamples = counts.Ignored,
        Loss = counts.Loss.Estimate,
        Accuracy = counts.Accuracy.Estimate,
        TopKAccuracy = counts.ClassCount > topK ? counts.TopKAccuracy.Estimate : null,
        InvalidPredictions = counts.InvalidPredictions,
        InvalidLosses = counts.InvalidLosses,
    };

    /// <inheritdoc />
    public bool NeedsPredictions => true;

    /// <inheritdoc />
    /// <exception cref="ArgumentOutOfRangeException">A target is no class.</exception>
    public void Validate(Tensor? predictions, Tensor targets) => Prepare(predictions, targets, out _);

    /// <inheritdoc />
    /// <exception cref="ArgumentOutOfRangeException">A target is no class. Nothing was counted.</exception>
    public void Observe(Tensor? predictions, Tensor targets, double? meanLoss = null)
    {
        var n = Prepare(predictions, targets, out var classes);
        EnsureCapacity(ref predicted, n);
        EnsureCapacity(ref amongTopK, n);
        Score(predictions!, n);

        counts.ClassCount = classes;
        if (KeepsConfusionMatrix(classes)) counts.Confusion ??= new ConfusionMatrix(classes);
        var counted = 0;
        for (var i = 0; i < n; i++)
        {
            if (labels[i] == ignoreIndex) continue;
            counts.Accuracy.Add(predicted[i] == labels[i] ? 1 : 0);
            counts.TopKAccuracy.Add(amongTopK[i] ? 1 : 0);
            counts.Confusion?.Add((int)labels[i], predicted[i]);
            if (predicted[i] == LogitScores.NoPrediction) counts.InvalidPredictions++;
            counted++;
        }

        counts.Ignored += n - counted;
        if (meanLoss is not { } loss) return;
        if (!double.IsFinite(loss))
        {
            counts.InvalidLosses += counted;
            return;
        }

        for (var i = 0; i < counted; i++) counts.Loss.Add(loss);
    }

    /// <inheritdoc />
    public void Reset() => counts = NewCounts();

    string IStateful.StateKind =>
        FormattableString.Invariant($"{nameof(ClassificationEvaluator)}, top {topK}, ")
        + (ignoreIndex is { } ignored ? FormattableString.Invariant($"target {ignored} ignored, ") : "")
        + (binaryLogits ? "binary logits, " : "")
        + FormattableString.Invariant($"confusion matrix of up to {confusionMatrixClasses} classes, window {windowSize}, fading factor {fadingFactor}");

    void IStateful.WriteState(BinaryWriter writer)
    {
        writer.Write(counts.ClassCount);
        writer.Write(counts.Ignored);
        writer.Write(counts.InvalidPredictions);
        writer.Write(counts.InvalidLosses);
        counts.Accuracy.Save(writer);
        counts.TopKAccuracy.Save(writer);
        counts.Loss.Save(writer);
        counts.Confusion?.Save(writer);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var read = ReadCounts(reader);
        return () => counts = read;
    }

    private Counts ReadCounts(BinaryReader reader)
    {
        var classes = reader.ReadInt32();
        if (classes < 0 || (givenClassCount != 0 && classes != givenClassCount))
        {
            throw new InvalidDataException($"The state is that of an evaluator of {classes} classes, this one has {givenClassCount}.");
        }

        var loaded = new Counts
        {
            ClassCount = classes,
            Ignored = reader.ReadInt64(),
            InvalidPredictions = reader.ReadInt64(),
            InvalidLosses = reader.ReadInt64(),
            Accuracy = PrequentialEstimator.Read(reader, windowSize, fadingFactor),
            TopKAccuracy = PrequentialEstimator.Read(reader, windowSize, fadingFactor),
            Loss = PrequentialEstimator.Read(reader, windowSize, fadingFactor),
        };
        var samples = loaded.Accuracy.Count;
        if (loaded.Ignored < 0
            || loaded.InvalidPredictions < 0 || loaded.InvalidPredictions > samples
            || loaded.InvalidLosses < 0 || loaded.Loss.Count > samples || loaded.InvalidLosses > samples - loaded.Loss.Count
            || loaded.TopKAccuracy.Count != samples
            || !(loaded.Accuracy.Sum >= 0 && loaded.TopKAccuracy.Sum >= loaded.Accuracy.Sum && loaded.TopKAccuracy.Sum <= samples)
            || (samples > 0 && classes == 0))
        {
            throw new InvalidDataException("The state of a classification evaluator is damaged: its counts contradict each other.");
        }

        // The option, not the state, bounds the size of the matrix.
        if (KeepsConfusionMatrix(classes)) loaded.Confusion = ConfusionMatrix.Read(reader, classes, samples);
        return loaded;
    }

    /// <summary>Checks a batch and reads its labels.</summary>
    /// <returns>The number of samples.</returns>
    private int Prepare(Tensor? predictions, Tensor targets, out int classes)
    {
        ArgumentNullException.ThrowIfNull(predictions);
        ArgumentNullException.ThrowIfNull(targets);
        if (predictions.IsInvalid) throw new ObjectDisposedException(nameof(predictions));
        if (targets.IsInvalid) throw new ObjectDisposedException(nameof(targets));

        if (!predictions.is_floating_point())
        {
            throw new ArgumentException($"The predictions are of dtype {predictions.dtype}; logits are of a floating-point dtype.",
                nameof(predictions));
        }

        var soft = AreSoftLabels(predictions, targets);
        classes = CheckShapes(predictions, targets, soft);
        var n = checked((int)(soft ? targets.numel() / classes : targets.numel()));
        EnsureCapacity(ref labels, n);
        var read = labels.AsSpan(0, n);
        if (soft)
        {
            ClassTargets.ReadProbabilities(targets, read);
        }
        else
        {
            ClassTargets.ReadIndices(targets, binaryLogits, read);
            ClassTargets.CheckIndices(read, classes, ignoreIndex);
        }

        return n;
    }

    /// <summary>Whether the targets are the probabilities of the classes: those are told by their shape, as in PyTorch's cross entropy.</summary>
    private bool AreSoftLabels(Tensor predictions, Tensor targets) =>
        !binaryLogits && targets.ndim == predictions.ndim && targets.is_floating_point() && ClassRows.IsSameShape(predictions, targets);

    /// <returns>The number of classes.</returns>
    private int CheckShapes(Tensor predictions, Tensor targets, bool soft)
    {
        if (binaryLogits) CheckBinaryShapes(predictions, targets);
        else CheckClassShapes(predictions, targets, soft);
        if (targets.numel() == 0) throw new ArgumentException("The batch is empty.", nameof(predictions));

        var classes = binaryLogits ? 2 : checked((int)predictions.size(1));
        if (counts.ClassCount != 0 && classes != counts.ClassCount)
        {
            throw new ArgumentException($"The predictions are for {classes} classes; there are {counts.ClassCount}.", nameof(predictions));
        }

        return classes;
    }

    private static void CheckClassShapes(Tensor predictions, Tensor targets, bool soft)
    {
        if (!ClassRows.HasClassAxis(predictions))
        {
            throw new ArgumentException($"The predictions are of shape {ClassRows.Describe(predictions)}; logits are [N, C] or [N, C, d1, ...].",
                nameof(predictions));
        }

        if (soft || ClassRows.IsShapeWithoutClasses(targets, predictions)) return;
        if (targets.ndim == predictions.ndim - 1 && predictions.ndim == 2) throw OtherCount(predictions, targets);
        throw new ArgumentException(
            $"The targets are of shape {ClassRows.Describe(targets)}, the predictions of shape {ClassRows.Describe(predictions)}; class indices are [N] "
            + $"for logits [N, C], and [N, d1, ...] for logits [N, C, d1, ...]. Probabilities of the classes are floating-point numbers of the logits' "
            + $"shape; for labels that do not exclude each other there is {nameof(MultiLabelEvaluator)}.",
            nameof(targets));
    }

    private static void CheckBinaryShapes(Tensor predictions, Tensor targets)
    {
        const string Right = "[N] or [N, 1], or both are of one shape [N, d1, ...]";
        if (predictions.ndim > 0 && ClassRows.IsSameShape(predictions, targets)) return;
        if (!IsVectorOrColumn(predictions))
        {
            throw new ArgumentException($"The predictions are of shape {ClassRows.Describe(predictions)}; logits are {Right}.", nameof(predictions));
        }

        if (!IsVectorOrColumn(targets))
        {
            throw new ArgumentException($"The targets are of shape {ClassRows.Describe(targets)}; class indices are {Right}.", nameof(targets));
        }

        if (predictions.size(0) != targets.size(0)) throw OtherCount(predictions, targets);
    }

    private static ArgumentException OtherCount(Tensor predictions, Tensor targets) =>
        new($"There are {predictions.size(0)} predictions and {targets.size(0)} targets.", nameof(targets));

    private void Score(Tensor predictions, int n)
    {
        var batch = labels.AsSpan(0, n);
        if (!binaryLogits && predictions.ndim == 2)
        {
            LogitScores.Compute(predictions, batch, topK, predicted.AsSpan(0, n), amongTopK.AsSpan(0, n));
            return;
        }

        using var scope = NewDisposeScope();
        if (!binaryLogits)
        {
            LogitScores.Compute(ClassRows.Of(predictions), batch, topK, predicted.AsSpan(0, n), amongTopK.AsSpan(0, n));
            return;
        }

        var logit = predictions.detach().reshape(n, 1);
        LogitScores.Compute(cat([logit.zeros_like(), logit], 1), batch, topK, predicted.AsSpan(0, n), amongTopK.AsSpan(0, n));
    }

    private Counts NewCounts() => new()
    {
        ClassCount = givenClassCount,
        Accuracy = new PrequentialEstimator(windowSize, fadingFactor),
        TopKAccuracy = new PrequentialEstimator(windowSize, fadingFactor),
        Loss = new PrequentialEstimator(windowSize, fadingFactor),
        Confusion = KeepsConfusionMatrix(givenClassCount) ? new ConfusionMatrix(givenClassCount) : null,
    };

    private bool KeepsConfusionMatrix(int classes) => classes > 0 && classes <= confusionMatrixClasses;

    private static bool IsVectorOrColumn(Tensor tensor) => tensor.ndim == 1 || (tensor.ndim == 2 && tensor.size(1) == 1);

    private static void EnsureCapacity<T>(ref T[] buffer, int length)
    {
        if (buffer.Length < length) buffer = new T[length];
    }

    /// <summary>Everything that is counted, in one object, so that it is forgotten or taken up as a whole.</summary>
    private sealed class Counts
    {
        public required PrequentialEstimator Accuracy { get; init; }

        public required PrequentialEstimator TopKAccuracy { get; init; }

        public required PrequentialEstimator Loss { get; init; }

        public ConfusionMatrix? Confusion { get; set; }

        public int ClassCount { get; set; }

        public long Ignored { get; set; }

        public long InvalidPredictions { get; set; }

        public long InvalidLosses { get; set; }
    }
}
