using ContinuousDL.Evaluation;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Evaluation;

/// <summary>Targets for each pixel or token, and soft labels: what PyTorch's cross entropy takes besides <c>[N]</c>.</summary>
public class DenseClassificationTests
{
    private DisposeScope scope = null!;

    [SetUp]
    public void Open_scope() => scope = NewDisposeScope();

    [TearDown]
    public void Close_scope() => scope.Dispose();

    [TestCase(7, ScalarType.Float32)]
    [TestCase(7, ScalarType.Float64)]
    [TestCase(7, ScalarType.BFloat16)]
    [TestCase(1, ScalarType.Float32)]
    public void Pixels_count_as_their_rows_one_by_one(int width, ScalarType dtype)
    {
        var (inOne, oneByOne) = (new ClassificationEvaluator(new() { TopK = 2, WindowSize = 50 }), new ClassificationEvaluator(new() { TopK = 2, WindowSize = 50 }));
        var random = new Random(width);
        for (var batch = 0; batch < 3; batch++)
        {
            var logits = Numbers(random, 2 * 4 * 5 * width).reshape(2, 4, 5, width).to(dtype);
            var targets = tensor(Enumerable.Range(0, 2 * 5 * width).Select(_ => random.Next(5) is var c && c == 4 ? -100L : c).ToArray()).reshape(2, 5, width);

            inOne.Observe(logits, targets, 0.5);
            for (var n = 0; n < 2; n++)
            {
                for (var y = 0; y < 5; y++)
                {
                    for (var x = 0; x < width; x++) oneByOne.Observe(logits[n, .., y, x].unsqueeze(0), targets[n, y, x].unsqueeze(0), 0.5);
                }
            }
        }

        inOne.Summary.IgnoredSamples.Should().BePositive();
        inOne.Saved().ShouldBe(oneByOne.Saved());
    }

    [Test]
    public void Tokens_have_one_more_axis_and_may_be_of_any_integer_dtype()
    {
        var evaluator = new ClassificationEvaluator();

        // Sample 0 predicts 1, 0, 1; sample 1 predicts 0, 0, 1.
        var logits = tensor(new[] { 0f, 1, 0, 1, 0, 1, 1, 1, 0, 0, 0, 1 }).reshape(2, 2, 3);
        evaluator.Observe(logits, tensor(new[] { 1, 1, 1, 0, 0, 0 }, ScalarType.Int32).reshape(2, 3));

        evaluator.Summary.Samples.Should().Be(6);
        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(4 / 6.0);
        evaluator.ClassCount.Should().Be(2);
    }

    [Test]
    public void Logits_that_are_no_contiguous_memory_are_read_in_their_order()
    {
        // Classes last, as transformers give them, and transposed as the loss wants them.
        var logits = tensor(new[] { 1f, 0, 0, 1, 0, 1 }).reshape(1, 3, 2).transpose(1, 2);
        var evaluator = new ClassificationEvaluator();

        evaluator.Observe(logits, tensor(new[] { 0L, 1, 1 }).reshape(1, 3));

        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(1);
    }

    [Test]
    public void Batch_whose_pixels_are_all_ignored_counts_nothing()
    {
        var evaluator = new ClassificationEvaluator();

        evaluator.Observe(zeros(2, 3, 2, 2), full([2, 2, 2], -100, ScalarType.Int64), double.NaN);

        evaluator.Summary.Should().Be(new PrequentialSummary { IgnoredSamples = 8 });
    }

    [Test]
    public void Pixel_with_a_NaN_predicts_nothing_and_the_others_do()
    {
        var logits = zeros(1, 3, 2, 2);
        logits[0, 1, 1, 0] = double.NaN;
        var evaluator = new ClassificationEvaluator();

        evaluator.Observe(logits, zeros([1, 2, 2], ScalarType.Int64));

        evaluator.Summary.InvalidPredictions.Should().Be(1);
        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(0.75);
    }

    [TestCase(new long[] { 2, 3, 4, 5 }, new long[] { 2, 4, 6 })]
    [TestCase(new long[] { 2, 3, 4, 5 }, new long[] { 2, 4 })]
    [TestCase(new long[] { 2, 3, 4, 5 }, new long[] { 2, 3, 4, 5 })]
    [TestCase(new long[] { 2, 3, 4, 5 }, new long[] { 1, 4, 5 })]
    [TestCase(new long[] { 2, 3 }, new long[] { 2, 3 })]
    [TestCase(new long[] { 2, 0, 4 }, new long[] { 2, 4 })]
    public void Shapes_that_do_not_fit_are_refused(long[] predictions, long[] targets)
    {
        ShouldBeRefused<ArgumentException>(zeros(predictions), zeros(targets, ScalarType.Int64)).WithMessage("*[N, C, d1, ...]*");
    }

    [Test]
    public void Label_out_of_range_is_refused_in_a_picture_too()
    {
        ShouldBeRefused<ArgumentOutOfRangeException>(zeros(1, 3, 2, 2), full([1, 2, 2], 3, ScalarType.Int64)).WithParameterName("targets");
    }

    [TestCase(ScalarType.Float16)]
    [TestCase(ScalarType.Float32)]
    [TestCase(ScalarType.Float64)]
    public void Soft_labels_are_right_where_their_most_probable_class_is_predicted(ScalarType dtype)
    {
        var evaluator = new ClassificationEvaluator(new() { TopK = 1 });

        evaluator.Observe(
            tensor(new[] { 0f, 2, 1, 5, 1, 0, 0, 0, 9 }).reshape(3, 3),
            tensor(new[] { 0.1, 0.8, 0.1, 0.3, 0.4, 0.3, 0.0, 0.5, 0.5 }).reshape(3, 3).to(dtype),
            0.7);

        evaluator.Summary.Accuracy!.Value.Cumulative.Should().BeApproximately(1 / 3.0, 1e-12);
        evaluator.Summary.Loss!.Value.Cumulative.Should().BeApproximately(0.7, 1e-12);
        evaluator.ConfusionMatrix![1, 2].Should().Be(1, "of two classes as probable the lower counts");
    }

    [Test]
    public void Soft_labels_for_each_pixel_have_the_shape_of_the_predictions()
    {
        var evaluator = new ClassificationEvaluator();
        var logits = Numbers(new Random(1), 2 * 4 * 3 * 3).reshape(2, 4, 3, 3);

        evaluator.Observe(logits, logits.softmax(1));

        evaluator.Summary.Samples.Should().Be(18);
        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(1);
    }

    [TestCase(0.5, 0.6)]
    [TestCase(1.0, 1.0)]
    [TestCase(0.0, 0.0)]
    [TestCase(-0.5, 1.5)]
    [TestCase(double.NaN, 1.0)]
    [TestCase(double.PositiveInfinity, 0.0)]
    public void Soft_labels_that_are_no_distribution_are_refused(double first, double second)
    {
        ShouldBeRefused<ArgumentOutOfRangeException>(zeros(1, 2), tensor(new[] { first, second }).reshape(1, 2)).WithParameterName("targets")
            .WithMessage("*MultiLabelEvaluator*");
    }

    [Test]
    public void BinaryLogits_of_pictures_count_each_pixel()
    {
        var evaluator = new ClassificationEvaluator(new() { BinaryLogits = true });

        evaluator.Observe(tensor(new[] { 1f, -1, 1, -1 }).reshape(1, 1, 2, 2), tensor(new[] { 1f, 0, 0, 0 }).reshape(1, 1, 2, 2));

        evaluator.Summary.Samples.Should().Be(4);
        evaluator.Summary.Accuracy!.Value.Cumulative.Should().Be(0.75);
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Ten_thousand_batches_leave_no_tensor_behind(bool soft)
    {
        var evaluator = new ClassificationEvaluator();
        var predictions = zeros(2, 3, 2);
        var targets = soft ? full([2, 3, 2], 1 / 3.0, ScalarType.Float32) : zeros([2, 2], ScalarType.Int64);
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;

        for (var i = 0; i < 10_000; i++) evaluator.Observe(predictions, targets, 0.5);

        DisposeScopeManager.Statistics.ThreadTotalLiveCount.Should().Be(before);
    }

    [Test]
    public void Restored_evaluator_of_pixels_goes_on_as_the_saved_one()
    {
        var (saved, restored) = (new ClassificationEvaluator(), new ClassificationEvaluator());
        saved.Observe(zeros(1, 3, 2, 2), zeros([1, 2, 2], ScalarType.Int64), 0.5);

        restored.Load(saved.Saved());
        foreach (var evaluator in new[] { saved, restored }) evaluator.Observe(zeros(1, 3, 4), ones([1, 4], ScalarType.Int64), 0.25);

        restored.Saved().ShouldBe(saved.Saved());
        restored.Summary.Should().Be(saved.Summary);
    }

    private static Tensor Numbers(Random random, int count) => tensor(Enumerable.Range(0, count).Select(_ => random.NextSingle()).ToArray());

    private static FluentAssertions.Specialized.ExceptionAssertions<T> ShouldBeRefused<T>(Tensor predictions, Tensor targets)
        where T : Exception
    {
        var evaluator = new ClassificationEvaluator();
        var before = evaluator.Saved();
        var validate = () => evaluator.Validate(predictions, targets);
        var observe = () => evaluator.Observe(predictions, targets, 1);

        validate.Should().Throw<T>();
        var thrown = observe.Should().Throw<T>();
        evaluator.Saved().ShouldBe(before);
        return thrown;
    }
}
