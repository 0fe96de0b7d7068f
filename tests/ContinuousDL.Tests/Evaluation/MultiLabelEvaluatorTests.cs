using ContinuousDL.Evaluation;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Evaluation;

public class MultiLabelEvaluatorTests
{
    private DisposeScope scope = null!;

    [SetUp]
    public void Open_scope() => scope = NewDisposeScope();

    [TearDown]
    public void Close_scope() => scope.Dispose();

    [Test]
    public void Summary_and_labels_over_random_batches_are_what_a_full_recomputation_gives([Range(1, 5)] int seed)
    {
        var random = new Random(seed);
        var labels = random.Next(1, 6);
        var threshold = seed % 2 == 0 ? 0.5 : 0.3;
        var evaluator = new MultiLabelEvaluator(new() { WindowSize = 7, FadingFactor = 0.9, Threshold = threshold });
        var (exact, single) = (new PrequentialEstimator(7, 0.9), new PrequentialEstimator(7, 0.9));
        var table = new long[labels, 2, 2];
        for (var batch = 0; batch < 10; batch++)
        {
            var n = random.Next(1, 5);
            var logits = Enumerable.Range(0, n * labels).Select(_ => random.NextDouble() * 4 - 2).ToArray();
            var targets = Enumerable.Range(0, n * labels).Select(_ => (float)random.Next(2)).ToArray();

            evaluator.Observe(tensor(logits).reshape(n, labels), tensor(targets).reshape(n, labels));

            for (var i = 0; i < n; i++)
            {
                var right = 0;
                for (var l = 0; l < labels; l++)
                {
                    var predicted = 1 / (1 + Math.Exp(-logits[i * labels + l])) > threshold ? 1 : 0;
                    table[l, (int)targets[i * labels + l], predicted]++;
                    right += predicted == targets[i * labels + l] ? 1 : 0;
                }

                exact.Add(right == labels ? 1 : 0);
                single.Add((double)right / labels);
            }
        }

        evaluator.Summary.Should().Be(new PrequentialSummary { Samples = exact.Count, Accuracy = exact.Estimate, LabelAccuracy = single.Estimate });
        var confusion = evaluator.Labels!;
        for (var l = 0; l < labels; l++)
        {
            var (tn, fp, fn, tp) = (table[l, 0, 0], table[l, 0, 1], table[l, 1, 0], table[l, 1, 1]);
            (confusion.TrueNegatives(l), confusion.FalsePositives(l), confusion.FalseNegatives(l), confusion.TruePositives(l)).Should().Be((tn, fp, fn, tp));
            confusion.Precision(l).Should().Be((double)tp / (tp + fp));
            confusion.Recall(l).Should().Be((double)tp / (tp + fn));
            confusion.F1(l).Should().Be(2.0 * tp / (2 * tp + fp + fn));
        }
    }

    [Test]
    public void Micro_averages_are_those_of_all_labels_together()
    {
        var evaluator = new MultiLabelEvaluator();

        evaluator.Observe(tensor(new[] { 1f, 1, -1, 1, -1, -1 }).reshape(2, 3), tensor(new[] { 1L, 0, 1, 1, 0, 1 }).reshape(2, 3));

        evaluator.Labels!.MicroPrecision.Should().Be(2 / 3.0);
        evaluator.Labels.MicroRecall.Should().Be(2 / 4.0);
        evaluator.Labels.MicroF1.Should().Be(4 / 7.0);
    }

    [TestCase(ScalarType.Bool)]
    [TestCase(ScalarType.Byte)]
    [TestCase(ScalarType.Int64)]
    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float64)]
    public void Targets_may_be_of_any_dtype(ScalarType dtype)
    {
        var evaluator = new MultiLabelEvaluator();

        evaluator.Observe(tensor(new[] { 1f, -1, 0, 2 }).reshape(2, 2), tensor(new[] { 1L, 0, 0, 1 }).to(dtype).reshape(2, 2));

        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(1);
    }

    [Test]
    public void Pixels_are_samples_of_their_own()
    {
        var evaluator = new MultiLabelEvaluator();

        // Labels by pixels: label 0 is 1, 0; label 1 is 0, 1.
        evaluator.Observe(tensor(new[] { 1f, -1, -1, -1 }).reshape(1, 2, 2), tensor(new[] { 1f, 0, 0, 1 }).reshape(1, 2, 2));

        evaluator.Summary.Samples.Should().Be(2);
        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(0.5);
        evaluator.Labels!.FalseNegatives(1).Should().Be(1);
    }

    [Test]
    public void NaN_makes_all_labels_of_its_sample_wrong()
    {
        var evaluator = new MultiLabelEvaluator();

        evaluator.Observe(tensor(new[] { float.NaN, 1f, 1f, -1f }).reshape(2, 2), tensor(new[] { 0f, 1, 1, 0 }).reshape(2, 2));

        evaluator.Summary.InvalidPredictions.Should().Be(1);
        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(0.5);
        evaluator.Summary.LabelAccuracy!.Value.Cumulative.Should().Be(0.5);
        evaluator.Labels!.FalsePositives(0).Should().Be(1);
        evaluator.Labels.FalseNegatives(1).Should().Be(1);
    }

    [Test]
    public void Loss_counts_for_each_sample_and_one_that_is_no_number_apart()
    {
        var evaluator = new MultiLabelEvaluator();

        evaluator.Observe(zeros(2, 3), zeros(2, 3), 0.5);
        evaluator.Observe(zeros(4, 3), zeros(4, 3), double.NaN);

        evaluator.Summary.Loss.Should().Be(new PrequentialEstimate(0.5, 0.5, 0.5));
        evaluator.Summary.InvalidLosses.Should().Be(4);
    }

    [TestCase(0.5)]
    [TestCase(2.0)]
    [TestCase(-1.0)]
    [TestCase(double.NaN)]
    public void Target_that_is_neither_0_nor_1_is_refused(double target) =>
        ShouldBeRefused<ArgumentOutOfRangeException>(zeros(1, 3), tensor(new[] { 1.0, target, 0 }).reshape(1, 3)).WithParameterName("targets");

    [Test]
    public void What_does_not_fit_is_refused_and_changes_nothing()
    {
        ShouldBeRefused<ArgumentException>(zeros(2, 3), zeros(2)).WithParameterName("targets");
        ShouldBeRefused<ArgumentException>(zeros(2, 3), zeros(3, 3)).WithParameterName("targets");
        ShouldBeRefused<ArgumentException>(zeros(2), zeros(2)).WithParameterName("predictions");
        ShouldBeRefused<ArgumentException>(zeros(2, 4), zeros(2, 4)).WithMessage("*4 labels; there are 3*");
        ShouldBeRefused<ArgumentException>(zeros(0, 3), zeros(0, 3)).WithMessage("*empty*");
        ShouldBeRefused<ArgumentException>(zeros([2, 3], ScalarType.Int64), zeros(2, 3)).WithParameterName("predictions");
        ShouldBeRefused<ArgumentNullException>(null, zeros(2, 3)).WithParameterName("predictions");
    }

    [Test]
    public void Options_out_of_range_are_refused_by_their_name()
    {
        ShouldBeRefused(new() { LabelCount = 0 }, "LabelCount");
        ShouldBeRefused(new() { Threshold = 0 }, "Threshold");
        ShouldBeRefused(new() { Threshold = 1 }, "Threshold");
        ShouldBeRefused(new() { Threshold = double.NaN }, "Threshold");
        ShouldBeRefused(new() { WindowSize = 0 }, "WindowSize");

        static void ShouldBeRefused(MultiLabelEvaluatorOptions options, string name)
        {
            var construct = () => new MultiLabelEvaluator(options);
            construct.Should().Throw<ArgumentOutOfRangeException>().WithParameterName(name);
        }
    }

    [Test]
    public void Restored_evaluator_goes_on_as_the_saved_one()
    {
        var (saved, restored) = (Trained(), new MultiLabelEvaluator());

        restored.Load(saved.Saved());
        foreach (var evaluator in new[] { saved, restored }) evaluator.Observe(ones(3, 3), zeros(3, 3), 1);

        restored.Saved().ShouldBe(saved.Saved());
        restored.Summary.Should().Be(saved.Summary);
    }

    [Test]
    public void State_of_other_options_or_cut_short_anywhere_is_refused_and_changes_nothing()
    {
        var state = Trained().Saved();

        ShouldNotLoad(new MultiLabelEvaluator(new() { Threshold = 0.4 }), state);
        ShouldNotLoad(new MultiLabelEvaluator(new() { LabelCount = 4 }), state);
        ShouldNotLoad(new MultiLabelEvaluator(new() { WindowSize = 9 }), state);
        ShouldNotLoad(new ClassificationEvaluator(), state);
        var small = new MultiLabelEvaluator(new() { WindowSize = 2 });
        small.Observe(zeros(2, 3), zeros(2, 3), 1);
        var whole = small.Saved();
        for (var length = 0; length < whole.Length; length++) ShouldNotLoad(new MultiLabelEvaluator(new() { WindowSize = 2 }), whole[..length]);
    }

    [TestCase(1 << 30)]
    [TestCase(int.MaxValue)]
    [TestCase(-1)]
    public void State_with_an_absurd_number_of_labels_allocates_nothing_for_it(int labels)
    {
        var state = Trained().Saved();
        BitConverter.TryWriteBytes(state.AsSpan(4 + 8), labels).Should().BeTrue();
        var evaluator = new MultiLabelEvaluator();
        var before = GC.GetAllocatedBytesForCurrentThread();

        ShouldNotLoad(evaluator, state);

        (GC.GetAllocatedBytesForCurrentThread() - before).Should().BeLessThan(1 << 20);
    }

    [Test]
    public void Ten_thousand_batches_leave_no_tensor_behind()
    {
        var evaluator = new MultiLabelEvaluator();
        var (predictions, targets) = (zeros(2, 3, 2), zeros(2, 3, 2));
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;

        for (var i = 0; i < 10_000; i++)
        {
            evaluator.Validate(predictions, targets);
            evaluator.Observe(predictions, targets, 0.5);
        }

        DisposeScopeManager.Statistics.ThreadTotalLiveCount.Should().Be(before);
    }

    private static MultiLabelEvaluator Trained()
    {
        var evaluator = new MultiLabelEvaluator();
        evaluator.Observe(tensor(new[] { 1f, -1, 1, -1, 1, 1 }).reshape(2, 3), tensor(new[] { 1f, 1, 0, 0, 1, 1 }).reshape(2, 3), 0.5);
        return evaluator;
    }

    private static FluentAssertions.Specialized.ExceptionAssertions<T> ShouldBeRefused<T>(Tensor? predictions, Tensor targets)
        where T : Exception
    {
        var evaluator = Trained();
        var before = evaluator.Saved();
        var validate = () => evaluator.Validate(predictions, targets);
        var observe = () => evaluator.Observe(predictions, targets, 1);

        validate.Should().Throw<T>();
        var thrown = observe.Should().Throw<T>();
        evaluator.Saved().ShouldBe(before);
        return thrown;
    }

    private static void ShouldNotLoad(IPrequentialEvaluator evaluator, byte[] state)
    {
        var before = evaluator.Saved();
        var load = () => evaluator.Load(state);

        load.Should().Throw<InvalidDataException>();
        evaluator.Saved().ShouldBe(before);
    }
}
