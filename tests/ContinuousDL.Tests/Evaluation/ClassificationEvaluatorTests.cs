using ContinuousDL.Evaluation;
using ContinuousDL.State;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Evaluation;

public class ClassificationEvaluatorTests
{
    private DisposeScope scope = null!;

    [SetUp]
    public void Open_scope() => scope = NewDisposeScope();

    [TearDown]
    public void Close_scope() => scope.Dispose();

    [Test]
    public void Summary_over_random_batches_is_what_a_full_recomputation_gives([Range(1, 10)] int seed)
    {
        var random = new Random(seed);
        var classes = random.Next(4, 8);
        var evaluator = new ClassificationEvaluator(new() { TopK = 3, WindowSize = 25, FadingFactor = 0.9 });
        var (hits, topKHits, losses) = (new List<double>(), new List<double>(), new List<double>());
        var matrix = new long[classes, classes];
        var ignored = 0;
        for (var batch = 0; batch < 20; batch++)
        {
            var n = random.Next(1, 9);
            var logits = Enumerable.Range(0, n * classes).Select(_ => random.NextSingle()).ToArray();
            var labels = Enumerable.Range(0, n).Select(_ => random.Next(6) == 0 ? -100L : random.Next(classes)).ToArray();
            var loss = random.NextDouble();

            evaluator.Observe(tensor(logits).reshape(n, classes), tensor(labels), loss);

            for (var i = 0; i < n; i++)
            {
                if (labels[i] == -100)
                {
                    ignored++;
                    continue;
                }

                var order = Enumerable.Range(0, classes).OrderByDescending(c => logits[i * classes + c]).ToList();
                hits.Add(order[0] == labels[i] ? 1 : 0);
                topKHits.Add(order.IndexOf((int)labels[i]) < 3 ? 1 : 0);
                losses.Add(loss);
                matrix[labels[i], order[0]]++;
            }
        }

        var summary = evaluator.Summary;
        summary.Samples.Should().Be(hits.Count);
        summary.IgnoredSamples.Should().Be(ignored);
        ShouldBe(summary.Accuracy, hits);
        ShouldBe(summary.TopKAccuracy, topKHits);
        ShouldBe(summary.Loss, losses);
        for (var actual = 0; actual < classes; actual++)
        {
            for (var predicted = 0; predicted < classes; predicted++)
            {
                evaluator.ConfusionMatrix![actual, predicted].Should().Be(matrix[actual, predicted]);
            }
        }

        static void ShouldBe(PrequentialEstimate? estimate, List<double> values)
        {
            var reference = new PrequentialEstimator(25, 0.9);
            foreach (var value in values) reference.Add(value);
            estimate.Should().Be(reference.Estimate);
        }
    }

    [Test]
    public void Summary_of_nothing_has_no_measures()
    {
        var evaluator = new ClassificationEvaluator();

        evaluator.Summary.Should().Be(new PrequentialSummary());
        evaluator.ClassCount.Should().BeNull();
        evaluator.ConfusionMatrix.Should().BeNull();
    }

    [TestCase(5, false)]
    [TestCase(6, true)]
    public void TopKAccuracy_is_there_only_where_there_are_more_than_k_classes(int classes, bool there)
    {
        var evaluator = new ClassificationEvaluator();

        evaluator.Observe(zeros(2, classes), zeros(2, ScalarType.Int64));

        evaluator.Summary.TopKAccuracy.HasValue.Should().Be(there);
    }

    [Test]
    public void Observe_without_a_loss_leaves_the_loss_alone()
    {
        var evaluator = new ClassificationEvaluator();
        evaluator.Observe(zeros(2, 3), zeros(2, ScalarType.Int64), 0.5);

        evaluator.Observe(zeros(2, 3), zeros(2, ScalarType.Int64));

        evaluator.Summary.Samples.Should().Be(4);
        evaluator.Summary.Loss.Should().Be(new PrequentialEstimate(0.5, 0.5, 0.5));
    }

    [TestCase(double.NaN)]
    [TestCase(double.PositiveInfinity)]
    public void Observe_a_loss_that_is_no_number_counts_it_apart(double loss)
    {
        var evaluator = new ClassificationEvaluator();
        evaluator.Observe(zeros(3, 4), zeros(3, ScalarType.Int64), 0.5);

        evaluator.Observe(zeros(2, 4), zeros(2, ScalarType.Int64), loss);

        evaluator.Summary.Loss!.Value.Cumulative.Should().Be(0.5);
        evaluator.Summary.InvalidLosses.Should().Be(2);
        evaluator.Summary.Samples.Should().Be(5);
    }

    [Test]
    public void Observe_NaN_logits_counts_them_as_wrong()
    {
        var evaluator = new ClassificationEvaluator(new() { TopK = 1 });

        evaluator.Observe(tensor(new[] { float.NaN, 1f, 2f, 0f }).reshape(2, 2), tensor(new[] { 0L, 0L }));

        evaluator.Summary.InvalidPredictions.Should().Be(1);
        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(0.5);
        evaluator.Summary.TopKAccuracy!.Value.Cumulative.Should().Be(0.5);
        evaluator.ConfusionMatrix!.WithoutPrediction(0).Should().Be(1);
        evaluator.ConfusionMatrix.Recall(0).Should().Be(0.5);
    }

    [Test]
    public void Observe_only_ignored_samples_counts_none()
    {
        var evaluator = new ClassificationEvaluator();

        evaluator.Observe(zeros(2, 3), tensor(new[] { -100L, -100L }), double.NaN);

        evaluator.Summary.Should().Be(new PrequentialSummary { IgnoredSamples = 2 });
    }

    [Test]
    public void IgnoreIndex_may_be_a_class()
    {
        var evaluator = new ClassificationEvaluator(new() { IgnoreIndex = 1 });

        evaluator.Observe(zeros(3, 3), tensor(new[] { 0L, 1L, 2L }));

        evaluator.Summary.Samples.Should().Be(2);
        evaluator.Summary.IgnoredSamples.Should().Be(1);
    }

    [TestCase(ScalarType.Byte)]
    [TestCase(ScalarType.Int8)]
    [TestCase(ScalarType.Int16)]
    [TestCase(ScalarType.Int32)]
    public void Observe_targets_of_other_integer_dtypes_counts_them_alike(ScalarType dtype)
    {
        var evaluator = new ClassificationEvaluator();

        evaluator.Observe(tensor(new[] { 0f, 1f, 1f, 0f }).reshape(2, 2), tensor(new[] { 1L, 1L }).to(dtype));

        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(0.5);
        evaluator.ConfusionMatrix![1, 0].Should().Be(1);
    }

    [Test]
    public void Observe_non_contiguous_targets_reads_them_in_their_order()
    {
        var evaluator = new ClassificationEvaluator();
        var targets = tensor(new[] { 0L, 9L, 1L, 9L }).reshape(2, 2)[.., 0];

        evaluator.Observe(tensor(new[] { 1f, 0f, 0f, 1f }).reshape(2, 2), targets);

        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(1);
    }

    [Test]
    public void Observe_logits_that_require_a_gradient_works()
    {
        var evaluator = new ClassificationEvaluator();

        evaluator.Observe(zeros(2, 3, requires_grad: true), zeros(2, ScalarType.Int64));
        evaluator.Observe(zeros(2, 3, ScalarType.Float64, requires_grad: true), zeros(2, ScalarType.Int64));

        evaluator.Summary.Samples.Should().Be(4);
    }

    [TestCase(10L)]
    [TestCase(-1L)]
    [TestCase(long.MinValue)]
    public void Observe_a_label_out_of_range_names_it_and_the_classes_and_changes_nothing(long label)
    {
        var evaluator = Trained();

        ShouldBeRefused<ArgumentOutOfRangeException>(evaluator, zeros(2, 10), tensor(new[] { 0L, label }))
            .WithParameterName("targets").WithMessage($"*Target 1*10 classes, 0 to 9*-100*{label}*")
            .Which.ActualValue.Should().Be(label);
    }

    [Test]
    public void Observe_the_ignore_index_when_there_is_none_is_refused()
    {
        var evaluator = Trained(new() { IgnoreIndex = null });

        ShouldBeRefused<ArgumentOutOfRangeException>(evaluator, zeros(1, 10), tensor(new[] { -100L })).WithMessage("*0 to 9.*");
    }

    [Test]
    public void Observe_mismatched_counts_is_refused()
    {
        ShouldBeRefused<ArgumentException>(Trained(), zeros(3, 10), zeros(2, ScalarType.Int64))
            .WithMessage("*3 predictions and 2 targets*");
    }

    [Test]
    public void Observe_an_empty_batch_is_refused()
    {
        ShouldBeRefused<ArgumentException>(Trained(), zeros(0, 10), zeros(0, ScalarType.Int64)).WithMessage("*empty*");
    }

    [Test]
    public void Observe_another_number_of_classes_is_refused()
    {
        ShouldBeRefused<ArgumentException>(Trained(), zeros(2, 9), zeros(2, ScalarType.Int64)).WithMessage("*9 classes; there are 10*");
    }

    [Test]
    public void Observe_another_number_of_classes_than_the_option_says_is_refused()
    {
        var evaluator = new ClassificationEvaluator(new() { ClassCount = 4 });

        evaluator.ClassCount.Should().Be(4);
        evaluator.ConfusionMatrix!.ClassCount.Should().Be(4);
        ShouldBeRefused<ArgumentException>(evaluator, zeros(2, 5), zeros(2, ScalarType.Int64)).WithMessage("*5 classes; there are 4*");
    }

    [Test]
    public void Observe_predictions_of_another_shape_is_refused()
    {
        ShouldBeRefused<ArgumentException>(Trained(), zeros(10), zeros(10, ScalarType.Int64)).WithMessage("*[10]*[N, C]*");
        ShouldBeRefused<ArgumentException>(Trained(), zeros(2, 10, 1), zeros(2, ScalarType.Int64)).WithMessage("*[2, 10, 1]*[N, C]*");
        ShouldBeRefused<ArgumentException>(Trained(), zeros(2, 0), zeros(2, ScalarType.Int64)).WithMessage("*[2, 0]*[N, C]*");
    }

    [Test]
    public void Observe_targets_of_another_shape_is_refused()
    {
        ShouldBeRefused<ArgumentException>(Trained(), zeros(2, 10), zeros(2, 1, ScalarType.Int64)).WithMessage("*[2, 1]*[N]*");
    }

    [Test]
    public void Observe_targets_that_are_no_integers_is_refused()
    {
        ShouldBeRefused<ArgumentException>(Trained(), zeros(2, 10), zeros(2)).WithMessage("*Float32*integer*");
        ShouldBeRefused<ArgumentException>(Trained(), zeros(2, 10), zeros(2, ScalarType.Bool)).WithMessage("*Bool*integer*");
    }

    [Test]
    public void Observe_predictions_that_are_no_floating_point_numbers_is_refused()
    {
        ShouldBeRefused<ArgumentException>(Trained(), zeros(2, 10, ScalarType.Int64), zeros(2, ScalarType.Int64))
            .WithMessage("*Int64*floating*");
    }

    [Test]
    public void Observe_a_disposed_tensor_is_refused()
    {
        var disposed = zeros(2, 10);
        disposed.Dispose();

        ShouldBeRefused<ObjectDisposedException>(Trained(), disposed, zeros(2, ScalarType.Int64)).WithMessage("*predictions*");
        ShouldBeRefused<ObjectDisposedException>(Trained(), zeros(2, 10), disposed).WithMessage("*targets*");
    }

    [Test]
    public void Observe_null_is_refused()
    {
        ShouldBeRefused<ArgumentNullException>(Trained(), null, zeros(2, ScalarType.Int64)).WithParameterName("predictions");
        ShouldBeRefused<ArgumentNullException>(Trained(), zeros(2, 10), null!).WithParameterName("targets");
    }

    [Test]
    public void The_first_batch_when_refused_does_not_fix_the_number_of_classes()
    {
        var evaluator = new ClassificationEvaluator();
        ShouldBeRefused<ArgumentOutOfRangeException>(evaluator, zeros(1, 3), tensor(new[] { 3L }));

        evaluator.Observe(zeros(1, 4), tensor(new[] { 3L }));

        evaluator.ClassCount.Should().Be(4);
    }

    [Test]
    public void BinaryLogits_above_zero_are_class_1()
    {
        var evaluator = new ClassificationEvaluator(new() { BinaryLogits = true });

        evaluator.Observe(tensor(new[] { 0.1f, -0.1f, 0f, 2f, float.NaN }), tensor(new[] { 1f, 0f, 0f, 0f, 1f }));

        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(0.6);
        evaluator.Summary.TopKAccuracy.Should().BeNull();
        evaluator.Summary.InvalidPredictions.Should().Be(1);
        evaluator.ConfusionMatrix![0, 1].Should().Be(1);
        evaluator.ConfusionMatrix[0, 0].Should().Be(2);
    }

    [TestCase(ScalarType.Bool)]
    [TestCase(ScalarType.Int64)]
    [TestCase(ScalarType.BFloat16)]
    public void BinaryLogits_take_a_column_and_targets_of_any_dtype(ScalarType dtype)
    {
        var evaluator = new ClassificationEvaluator(new() { BinaryLogits = true });

        evaluator.Observe(tensor(new[] { 1.0, 1e-200 }).reshape(2, 1), tensor(new[] { 1L, 1L }).to(dtype).reshape(2, 1));

        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(1);
    }

    [TestCase(0.5)]
    [TestCase(2.0)]
    [TestCase(double.NaN)]
    [TestCase(double.PositiveInfinity)]
    public void BinaryLogits_refuse_a_target_that_is_neither_0_nor_1(double target)
    {
        var evaluator = new ClassificationEvaluator(new() { BinaryLogits = true });

        ShouldBeRefused<ArgumentOutOfRangeException>(evaluator, zeros(1), tensor(new[] { target })).WithParameterName("targets");
    }

    [Test]
    public void BinaryLogits_refuse_two_columns()
    {
        var evaluator = new ClassificationEvaluator(new() { BinaryLogits = true });

        ShouldBeRefused<ArgumentException>(evaluator, zeros(2, 2), zeros(2)).WithMessage("*[2, 2]*[N] or [N, 1]*");
    }

    [TestCase(2, false)]
    [TestCase(3, true)]
    public void ConfusionMatrix_is_kept_up_to_the_number_of_classes_asked_for(int limit, bool kept)
    {
        var evaluator = new ClassificationEvaluator(new() { ConfusionMatrixClasses = limit });

        evaluator.Observe(zeros(2, 3), zeros(2, ScalarType.Int64));

        (evaluator.ConfusionMatrix is not null).Should().Be(kept);
        evaluator.Summary.Samples.Should().Be(2);
        ShouldRestore(evaluator, new ClassificationEvaluator(new() { ConfusionMatrixClasses = limit }));
    }

    [Test]
    public void Reset_forgets_everything_but_the_options()
    {
        var evaluator = Trained();

        evaluator.Reset();

        evaluator.Summary.Should().Be(new PrequentialSummary());
        evaluator.ClassCount.Should().BeNull();
    }

    [Test]
    public void A_restored_evaluator_goes_on_as_the_saved_one()
    {
        var (saved, restored) = (Trained(), new ClassificationEvaluator());

        ShouldRestore(saved, restored);
        restored.ConfusionMatrix![2, 0].Should().Be(saved.ConfusionMatrix![2, 0]);

        foreach (var evaluator in new[] { saved, restored }) evaluator.Observe(ones(3, 10), tensor(new[] { 0L, 1L, -100L }), 0.7);
        restored.Summary.Should().Be(saved.Summary);
        restored.Saved().ShouldBe(saved.Saved());
    }

    [Test]
    public void LoadState_of_other_options_is_refused()
    {
        var state = Trained().Saved();
        ClassificationEvaluatorOptions[] others =
        [
            new() { TopK = 4 }, new() { IgnoreIndex = null }, new() { IgnoreIndex = 0 }, new() { BinaryLogits = true },
            new() { ConfusionMatrixClasses = 10 }, new() { ClassCount = 11 }, new() { WindowSize = 999 }, new() { FadingFactor = 0.99 },
        ];
        foreach (var options in others) ShouldNotLoad(new ClassificationEvaluator(options), state);
        ShouldNotLoad(new LossEvaluator(), state);
    }

    [Test]
    public void LoadState_of_a_state_cut_short_anywhere_is_refused_and_changes_nothing()
    {
        var options = new ClassificationEvaluatorOptions { WindowSize = 3 };
        var state = Trained(options).Saved();
        for (var length = 0; length < state.Length; length++) ShouldNotLoad(Trained(options), state[..length]);
    }

    [Test]
    public void LoadState_of_a_damaged_state_takes_it_up_or_is_refused_and_changes_nothing([Range(1, 20)] int seed)
    {
        var random = new Random(seed);
        var options = new ClassificationEvaluatorOptions { WindowSize = 2 };
        var intact = Trained(options).Saved();
        for (var i = 0; i < 20; i++)
        {
            var evaluator = Trained(options);
            var state = (byte[])intact.Clone();
            state[random.Next(state.Length)] ^= (byte)random.Next(1, 256);
            try
            {
                evaluator.Load(state);
                ShouldRestore(evaluator, new ClassificationEvaluator(options));
            }
            catch (InvalidDataException)
            {
                evaluator.Saved().ShouldBe(intact);
            }
        }
    }

    [TestCase(1 << 30)]
    [TestCase(int.MaxValue)]
    [TestCase(-1)]
    public void LoadState_of_an_absurd_number_of_classes_allocates_nothing_for_it(int classes)
    {
        var state = Trained().Saved();
        var evaluator = new ClassificationEvaluator();

        // The kind with its length, the version, the length; then the number of classes.
        var header = 2 + ((IStateful)evaluator).StateKind.Length + 4 + 8;
        BitConverter.TryWriteBytes(state.AsSpan(header), classes).Should().BeTrue();

        var before = GC.GetAllocatedBytesForCurrentThread();
        Exception? refusal = null;
        try
        {
            evaluator.Load(state);
        }
        catch (InvalidDataException e)
        {
            refusal = e;
        }

        refusal.Should().NotBeNull("the matrix of the state is of another size");
        (GC.GetAllocatedBytesForCurrentThread() - before).Should().BeLessThan(1 << 20);
    }

    [Test]
    public void Observe_float32_on_the_CPU_allocates_nothing_and_makes_no_tensor()
    {
        var evaluator = new ClassificationEvaluator();
        var (predictions, targets) = (rand(8, 10), randint(0, 10, 8, ScalarType.Int64));
        for (var i = 0; i < 100; i++) evaluator.Observe(predictions, targets, 0.5);

        var tensors = DisposeScopeManager.Statistics.CreatedInScopeCount;
        var accuracy = 0.0;
        AllocatedBytes.OfRun(Observe).Should().Be(0);
        DisposeScopeManager.Statistics.CreatedInScopeCount.Should().Be(tensors);
        accuracy.Should().BeInRange(0, 1000);

        void Observe()
        {
            accuracy = 0;
            for (var i = 0; i < 1000; i++)
            {
                evaluator.Observe(predictions, targets, 0.5);
                accuracy += evaluator.Summary.Accuracy!.Value.Window;
            }
        }
    }

    [TestCase(ScalarType.Float32, ScalarType.Int64, false)]
    [TestCase(ScalarType.Float64, ScalarType.Int32, false)]
    [TestCase(ScalarType.BFloat16, ScalarType.Byte, false)]
    [TestCase(ScalarType.Float32, ScalarType.Float32, true)]
    public void Ten_thousand_batches_leave_no_tensor_behind(ScalarType logits, ScalarType labels, bool binary)
    {
        var evaluator = new ClassificationEvaluator(new() { BinaryLogits = binary });
        var (predictions, targets) = (binary ? zeros(8, logits) : zeros(8, 10, logits), zeros(8, labels));
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;

        for (var i = 0; i < 10_000; i++) evaluator.Observe(predictions, targets, 0.5);

        DisposeScopeManager.Statistics.ThreadTotalLiveCount.Should().Be(before);
        evaluator.Summary.Samples.Should().Be(80_000);
    }

    [Test]
    public void Options_out_of_range_are_refused_by_their_name()
    {
        ShouldBeRefused(new() { ClassCount = 0 }, "ClassCount");
        ShouldBeRefused(new() { ClassCount = 3, BinaryLogits = true }, "ClassCount");
        ShouldBeRefused(new() { TopK = 0 }, "TopK");
        ShouldBeRefused(new() { ConfusionMatrixClasses = -1 }, "ConfusionMatrixClasses");
        ShouldBeRefused(new() { ConfusionMatrixClasses = (1 << 14) + 1 }, "ConfusionMatrixClasses");
        ShouldBeRefused(new() { WindowSize = 0 }, "WindowSize");
        ShouldBeRefused(new() { WindowSize = PrequentialOptions.MaxWindowSize + 1 }, "WindowSize");
        ShouldBeRefused(new() { FadingFactor = 0 }, "FadingFactor");
        ShouldBeRefused(new() { FadingFactor = 1.01 }, "FadingFactor");
        ShouldBeRefused(new() { FadingFactor = double.NaN }, "FadingFactor");

        static void ShouldBeRefused(ClassificationEvaluatorOptions options, string name)
        {
            var construct = () => new ClassificationEvaluator(options);
            construct.Should().Throw<ArgumentOutOfRangeException>().WithParameterName(name);
        }
    }

    private static ClassificationEvaluator Trained(ClassificationEvaluatorOptions? options = null)
    {
        var evaluator = new ClassificationEvaluator(options);
        evaluator.Observe(zeros(3, 10), tensor(new[] { 0L, 2L, 0L }), 0.25);
        return evaluator;
    }

    private static FluentAssertions.Specialized.ExceptionAssertions<T> ShouldBeRefused<T>(
        ClassificationEvaluator evaluator, Tensor? predictions, Tensor targets)
        where T : Exception
    {
        var before = evaluator.Saved();
        var validate = () => evaluator.Validate(predictions, targets);
        var observe = () => evaluator.Observe(predictions, targets, 1);

        validate.Should().Throw<T>();
        var thrown = observe.Should().Throw<T>();
        evaluator.Saved().ShouldBe(before);
        return thrown;
    }

    private static void ShouldRestore(ClassificationEvaluator saved, ClassificationEvaluator into)
    {
        into.Load(saved.Saved());
        into.Summary.Should().Be(saved.Summary);
        into.ClassCount.Should().Be(saved.ClassCount);
    }

    private static void ShouldNotLoad(IPrequentialEvaluator evaluator, byte[] state)
    {
        var before = evaluator.Saved();
        var load = () => evaluator.Load(state);

        load.Should().Throw<InvalidDataException>();
        evaluator.Saved().ShouldBe(before);
    }
}
