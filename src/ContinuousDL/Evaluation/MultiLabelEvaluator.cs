using System.Runtime.InteropServices;
using ContinuousDL.State;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Evaluation;

/// <summary>
/// Prequential evaluation of a model that says of each of L labels whether a sample has it: subset accuracy, the accuracy of the
/// single labels, mean loss, and precision and recall of each label.
/// </summary>
/// <remarks>
/// <para>
/// It takes what PyTorch's binary cross entropy with logits takes: predictions are logits, <c>[N, L]</c>, of a floating-point
/// dtype, and targets are of the same shape, 1 for a label that the sample has and 0 for one that it has not, of any dtype. With
/// further axes, <c>[N, L, d1, ...]</c>, each pixel or token is a sample of its own. A label is predicted when its probability is
/// above <see cref="MultiLabelEvaluatorOptions.Threshold"/>.
/// </para>
/// <para>
/// <see cref="PrequentialSummary.Accuracy"/> is the share of samples whose labels are all right (subset accuracy, or exact match
/// ratio), <see cref="PrequentialSummary.LabelAccuracy"/> that of the single labels (1 minus the Hamming loss).
/// <see cref="Labels"/> has precision, recall and F1 of each label, and their micro averages. A sample whose logits hold a NaN has
/// all its labels wrong.
/// </para>
/// <para>Where few labels are set, a model that predicts none has a high label accuracy: look at recall, too. Not thread-safe.</para>
/// </remarks>
/// <example>
/// <code>
/// var evaluator = new MultiLabelEvaluator();
/// evaluator.Observe(model.call(inputs), targets);
/// Console.WriteLine($"{evaluator.Summary.LabelAccuracy?.Window:P1} of the labels, micro F1 {evaluator.Labels?.MicroF1:F3}");
/// </code>
/// </example>
public sealed class MultiLabelEvaluator : IPrequentialEvaluator
{
    private readonly int windowSize;
    private readonly double fadingFactor;
    private readonly double threshold;
    private readonly int givenLabelCount;

    private Counts counts;

    /// <summary>Makes an evaluator that has seen nothing.</summary>
    /// <param name="options">The measures to take; copied. Default: as the options say.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is not what it may be.</exception>
    public MultiLabelEvaluator(MultiLabelEvaluatorOptions? options = null)
    {
        options ??= new MultiLabelEvaluatorOptions();
        options.Validate();
        windowSize = options.WindowSize;
        fadingFactor = options.FadingFactor;
        threshold = options.Threshold;
        givenLabelCount = options.LabelCount ?? 0;
        counts = NewCounts();
    }

    /// <inheritdoc />
    public bool NeedsPredictions => true;

    /// <summary>
    /// How often each label was predicted for samples that have it and that have it not. It goes on counting with the evaluator,
    /// until <see cref="Reset"/> or <see cref="SavedState.LoadState"/> puts another in its place. Null as long as the number of labels was
    /// neither given nor seen.
    /// </summary>
    public LabelConfusion? Labels => counts.Labels;

    /// <inheritdoc />
    public PrequentialSummary Summary => new()
    {
        Samples = counts.Accuracy.Count,
        Loss = counts.Loss.Estimate,
        Accuracy = counts.Accuracy.Estimate,
        LabelAccuracy = counts.LabelAccuracy.Estimate,
        InvalidPredictions = counts.InvalidPredictions,
        InvalidLosses = counts.InvalidLosses,
    };

    /// <inheritdoc />
    /// <exception cref="ArgumentOutOfRangeException">A target is neither 0 nor 1.</exception>
    public void Validate(Tensor? predictions, Tensor targets)
    {
        using var scope = NewDisposeScope();
        Check(predictions, targets);
        _ = ReadTargets(targets);
    }

    /// <inheritdoc />
    /// <exception cref="ArgumentOutOfRangeException">A target is neither 0 nor 1. Nothing was counted.</exception>
    public void Observe(Tensor? predictions, Tensor targets, double? meanLoss = null)
    {
        using var scope = NewDisposeScope();
        using var noGradient = no_grad();
        var labelCount = Check(predictions, targets);
        var actual = ReadTargets(targets);
        var predicted = ReadPredictions(predictions!, out var valid);

        counts.Labels ??= new LabelConfusion(labelCount);
        for (var i = 0; i < valid.Length; i++)
        {
            Count(actual.Slice(i * labelCount, labelCount), predicted.Slice(i * labelCount, labelCount), valid[i]);
        }

        if (meanLoss is not { } loss) return;
        if (!double.IsFinite(loss))
        {
            counts.InvalidLosses += valid.Length;
            return;
        }

        for (var i = 0; i < valid.Length; i++) counts.Loss.Add(loss);
    }

    /// <inheritdoc />
    public void Reset() => counts = NewCounts();

    string IStateful.StateKind => FormattableString.Invariant(
        $"{nameof(MultiLabelEvaluator)}, threshold {threshold}, window {windowSize}, fading factor {fadingFactor}");

    void IStateful.WriteState(BinaryWriter writer)
    {
        writer.Write(counts.Labels?.LabelCount ?? 0);
        writer.Write(counts.InvalidPredictions);
        writer.Write(counts.InvalidLosses);
        counts.Accuracy.Save(writer);
        counts.LabelAccuracy.Save(writer);
        counts.Loss.Save(writer);
        counts.Labels?.Save(writer);
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var read = ReadCounts(reader);
        return () => counts = read;
    }

    private Counts ReadCounts(BinaryReader reader)
    {
        var labelCount = reader.ReadInt32();
        if (labelCount < 0 || (givenLabelCount != 0 && labelCount != givenLabelCount))
        {
            throw new InvalidDataException($"The state is that of an evaluator of {labelCount} labels, this one has {givenLabelCount}.");
        }

        var loaded = new Counts
        {
            InvalidPredictions = reader.ReadInt64(),
            InvalidLosses = reader.ReadInt64(),
            Accuracy = PrequentialEstimator.Read(reader, windowSize, fadingFactor),
            LabelAccuracy = PrequentialEstimator.Read(reader, windowSize, fadingFactor),
            Loss = PrequentialEstimator.Read(reader, windowSize, fadingFactor),
        };
        var samples = loaded.Accuracy.Count;
        if (loaded.InvalidPredictions < 0 || loaded.InvalidPredictions > samples
            || loaded.InvalidLosses < 0 || loaded.Loss.Count > samples || loaded.InvalidLosses > samples - loaded.Loss.Count
            || loaded.LabelAccuracy.Count != samples
            || !(loaded.Accuracy.Sum >= 0 && loaded.Accuracy.Sum <= samples && loaded.LabelAccuracy.Sum >= 0)
            || (samples > 0 && labelCount == 0))
        {
            throw new InvalidDataException("The state of a multi-label evaluator is damaged: its counts contradict each other.");
        }

        if (labelCount > 0) loaded.Labels = LabelConfusion.Read(reader, labelCount, samples);
        return loaded;
    }

    /// <summary>Checks the shapes and dtypes of a batch.</summary>
    /// <returns>The number of labels.</returns>
    private int Check(Tensor? predictions, Tensor targets)
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

        if (!ClassRows.HasClassAxis(predictions))
        {
            throw new ArgumentException($"The predictions are of shape {ClassRows.Describe(predictions)}; logits are [N, L] or [N, L, d1, ...].",
                nameof(predictions));
        }

        if (!ClassRows.IsSameShape(predictions, targets))
        {
            throw new ArgumentException(
                $"The targets are of shape {ClassRows.Describe(targets)}; there is one for each label, as predicted, {ClassRows.Describe(predictions)}.",
                nameof(targets));
        }

        if (predictions.numel() == 0) throw new ArgumentException("The batch is empty.", nameof(predictions));
        var labelCount = checked((int)predictions.size(1));
        var expected = counts.Labels?.LabelCount ?? labelCount;
        if (labelCount == expected) return labelCount;
        throw new ArgumentException($"The predictions are for {labelCount} labels; there are {expected}.", nameof(predictions));
    }

    /// <summary>Whether each sample has each label, <c>[N, L]</c>; valid as long as the dispose scope.</summary>
    private static ReadOnlySpan<bool> ReadTargets(Tensor targets)
    {
        var rows = ClassRows.Of(targets.detach());
        var set = rows.to(ScalarType.Bool);
        if (!rows.eq(set.to(rows.dtype)).all().cpu().item<bool>())
        {
            throw new ArgumentOutOfRangeException(nameof(targets), "A target is neither 0 nor 1: it says whether the sample has the label.");
        }

        return MemoryMarshal.Cast<byte, bool>(set.cpu().contiguous().bytes);
    }

    /// <summary>Whether each label was predicted, <c>[N, L]</c>, and whether there is a prediction at all, <c>[N]</c>.</summary>
    private ReadOnlySpan<bool> ReadPredictions(Tensor predictions, out ReadOnlySpan<bool> valid)
    {
        var rows = ClassRows.Of(predictions.detach());
        using var logit = Math.Log(threshold / (1 - threshold)).ToScalar();
        valid = MemoryMarshal.Cast<byte, bool>(rows.isnan().any(1).logical_not().cpu().contiguous().bytes);
        return MemoryMarshal.Cast<byte, bool>(rows.gt(logit).cpu().contiguous().bytes);
    }

    private void Count(ReadOnlySpan<bool> actual, ReadOnlySpan<bool> predicted, bool valid)
    {
        var right = 0;
        for (var l = 0; valid && l < actual.Length; l++) right += actual[l] == predicted[l] ? 1 : 0;
        counts.Accuracy.Add(right == actual.Length ? 1 : 0);
        counts.LabelAccuracy.Add((double)right / actual.Length);
        if (valid)
        {
            counts.Labels!.Add(actual, predicted);
        }
        else
        {
            counts.Labels!.AddWrong(actual);
            counts.InvalidPredictions++;
        }
    }

    private Counts NewCounts() => new()
    {
        Accuracy = new PrequentialEstimator(windowSize, fadingFactor),
        LabelAccuracy = new PrequentialEstimator(windowSize, fadingFactor),
        Loss = new PrequentialEstimator(windowSize, fadingFactor),
        Labels = givenLabelCount > 0 ? new LabelConfusion(givenLabelCount) : null,
    };

    /// <summary>Everything that is counted, in one object, so that it is forgotten or taken up as a whole.</summary>
    private sealed class Counts
    {
        public required PrequentialEstimator Accuracy { get; init; }

        public required PrequentialEstimator LabelAccuracy { get; init; }

        public required PrequentialEstimator Loss { get; init; }

        public LabelConfusion? Labels { get; set; }

        public long InvalidPredictions { get; set; }

        public long InvalidLosses { get; set; }
    }
}
