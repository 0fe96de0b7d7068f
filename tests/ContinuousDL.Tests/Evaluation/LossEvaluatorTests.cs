using ContinuousDL.Evaluation;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Evaluation;

public class LossEvaluatorTests
{
    private DisposeScope scope = null!;

    [SetUp]
    public void Open_scope() => scope = NewDisposeScope();

    [TearDown]
    public void Close_scope() => scope.Dispose();

    [Test]
    public void Summary_weighs_each_batch_by_its_samples()
    {
        var evaluator = new LossEvaluator(new() { WindowSize = 3, FadingFactor = 0.5 });

        evaluator.Observe(zeros(2, 4), zeros(2, 4), 1);
        evaluator.Observe(zeros(2, 4), zeros(2, 4), 4);

        evaluator.Summary.Should().Be(new PrequentialSummary
        {
            Samples = 4,
            Loss = new PrequentialEstimate(10 / 4.0, (4 + 4 / 2.0 + 1 / 4.0 + 1 / 8.0) / (1 + 1 / 2.0 + 1 / 4.0 + 1 / 8.0), 9 / 3.0),
        });
    }

    [Test]
    public void Observe_without_predictions_takes_the_count_from_the_targets()
    {
        var evaluator = new LossEvaluator();

        evaluator.Observe(null, zeros(5, 2), 1);

        evaluator.Summary.Samples.Should().Be(5);
    }

    [Test]
    public void Observe_a_loss_that_is_no_number_counts_it_apart()
    {
        var evaluator = new LossEvaluator();
        evaluator.Observe(null, zeros(5), 1);

        evaluator.Observe(null, zeros(3), double.NaN);

        evaluator.Summary.Should().Be(new PrequentialSummary { Samples = 8, InvalidLosses = 3, Loss = new PrequentialEstimate(1, 1, 1) });
    }

    [Test]
    public void Observe_what_does_not_fit_is_refused_and_changes_nothing()
    {
        var evaluator = new LossEvaluator();
        evaluator.Observe(null, zeros(5), 1);
        var disposed = zeros(2);
        disposed.Dispose();
        var before = evaluator.Saved();

        ShouldThrow<ArgumentException>(() => evaluator.Observe(zeros(3, 4), zeros(2), 1)).WithMessage("*3 predictions and 2 targets*");
        ShouldThrow<ArgumentException>(() => evaluator.Observe(zeros(0, 4), zeros(0), 1)).WithMessage("*empty*");
        ShouldThrow<ArgumentException>(() => evaluator.Observe(null, tensor(1f), 1)).WithMessage("*targets*scalar*");
        ShouldThrow<ArgumentException>(() => evaluator.Observe(tensor(1f), zeros(2), 1)).WithMessage("*predictions*scalar*");
        ShouldThrow<ArgumentNullException>(() => evaluator.Observe(null, zeros(2))).WithParameterName("meanLoss");
        ShouldThrow<ArgumentNullException>(() => evaluator.Observe(null, null!, 1)).WithParameterName("targets");
        ShouldThrow<ObjectDisposedException>(() => evaluator.Observe(null, disposed, 1)).WithMessage("*targets*");
        ShouldThrow<ObjectDisposedException>(() => evaluator.Observe(disposed, zeros(2), 1)).WithMessage("*predictions*");
        ShouldThrow<ArgumentException>(() => evaluator.Validate(zeros(3, 4), zeros(2))).WithMessage("*3 predictions and 2 targets*");

        evaluator.Saved().ShouldBe(before);

        static FluentAssertions.Specialized.ExceptionAssertions<T> ShouldThrow<T>(Action action)
            where T : Exception
        {
            return action.Should().Throw<T>();
        }
    }

    [Test]
    public void Reset_forgets_everything()
    {
        var evaluator = new LossEvaluator();
        evaluator.Observe(null, zeros(5), 1);
        evaluator.Observe(null, zeros(5), double.NaN);

        evaluator.Reset();

        evaluator.Summary.Should().Be(new PrequentialSummary());
    }

    [Test]
    public void A_restored_evaluator_goes_on_as_the_saved_one()
    {
        var (saved, restored) = (new LossEvaluator(new() { WindowSize = 4 }), new LossEvaluator(new() { WindowSize = 4 }));
        saved.Observe(null, zeros(5), 0.3);
        saved.Observe(null, zeros(1), double.NaN);

        restored.Load(saved.Saved());

        restored.Summary.Should().Be(saved.Summary);
        foreach (var evaluator in new[] { saved, restored }) evaluator.Observe(null, zeros(2), 0.7);
        restored.Saved().ShouldBe(saved.Saved());
    }

    [Test]
    public void LoadState_that_is_cut_short_or_of_other_options_is_refused_and_changes_nothing()
    {
        var saved = new LossEvaluator(new() { WindowSize = 4 });
        saved.Observe(null, zeros(5), 0.3);
        var state = saved.Saved();
        for (var length = 0; length < state.Length; length++) ShouldNotLoad(new LossEvaluator(new() { WindowSize = 4 }), state[..length]);
        ShouldNotLoad(new LossEvaluator(new() { WindowSize = 5 }), state);
        ShouldNotLoad(new LossEvaluator(new() { WindowSize = 4, FadingFactor = 0.5 }), state);
        ShouldNotLoad(new ClassificationEvaluator(), state);

        static void ShouldNotLoad(IPrequentialEvaluator evaluator, byte[] state)
        {
            var load = () => evaluator.Load(state);
            load.Should().Throw<InvalidDataException>();
            evaluator.Summary.Should().Be(new PrequentialSummary());
        }
    }
}
