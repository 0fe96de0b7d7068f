using ContinuousDL.Evaluation;
using ContinuousDL.State;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Tests.Evaluation;

public class PrequentialComparisonTests
{
    private DisposeScope scope = null!;

    [SetUp]
    public void Open_scope() => scope = NewDisposeScope();

    [TearDown]
    public void Close_scope() => scope.Dispose();

    [Test]
    public void Observe_evaluates_every_model_on_the_same_arrivals()
    {
        var comparison = new PrequentialComparison((predictions, targets) => functional.cross_entropy(predictions, targets));
        comparison.Add("right", inputs => inputs * 1, new ClassificationEvaluator());
        comparison.Add("wrong", inputs => -inputs, new ClassificationEvaluator());
        var inputs = tensor(new[] { 5f, 0f, 0f, 5f }).reshape(2, 2);

        comparison.Observe(inputs, tensor(new[] { 0L, 1L }));

        comparison.Evaluators.Keys.Should().Equal("right", "wrong");
        var (right, wrong) = (comparison.Evaluators["right"].Summary, comparison.Evaluators["wrong"].Summary);
        right.Accuracy!.Value.Cumulative.Should().Be(1);
        wrong.Accuracy!.Value.Cumulative.Should().Be(0);
        right.Loss!.Value.Cumulative.Should().BeApproximately(Math.Log(1 + Math.Exp(-5)), 1e-6);
        wrong.Loss!.Value.Cumulative.Should().BeApproximately(Math.Log(1 + Math.Exp(5)), 1e-6);
        (right.Samples, wrong.Samples).Should().Be((2, 2));
    }

    [Test]
    public void Observe_runs_a_model_in_evaluation_mode_and_puts_back_the_mode_of_every_module()
    {
        using var frozen = BatchNorm1d(3);
        using var inner = Sequential(frozen, Dropout(0.5));
        using var model = Sequential(inner, Dropout(0.5));
        var seen = new List<bool>();
        model.register_forward_hook(_ => seen.AddRange(model.modules().Select(m => m.training).Append(model.training)));
        model.train();
        frozen.eval();
        var before = model.modules().Select(m => m.training).ToArray();
        before.Should().Contain(true).And.Contain(false);

        var comparison = Comparison();
        comparison.Add("model", model, new ClassificationEvaluator());
        comparison.Observe(zeros(2, 3), zeros(2, ScalarType.Int64));

        seen.Should().NotBeEmpty().And.AllBeEquivalentTo(false);
        model.training.Should().BeTrue();
        model.modules().Select(m => m.training).Should().Equal(before);
    }

    [Test]
    public void Observe_puts_back_the_mode_when_the_model_fails()
    {
        using var model = Linear(4, 2);
        model.train();
        var comparison = Comparison();
        comparison.Add("model", model, new ClassificationEvaluator());

        var observe = () => comparison.Observe(zeros(2, 3), zeros(2, ScalarType.Int64));

        observe.Should().Throw<Exception>();
        model.training.Should().BeTrue();
    }

    [Test]
    public void Observe_leaves_a_model_in_evaluation_mode_as_it_is()
    {
        using var model = Linear(3, 2);
        model.eval();
        var comparison = Comparison();
        comparison.Add("model", model, new ClassificationEvaluator());

        comparison.Observe(zeros(2, 3), zeros(2, ScalarType.Int64));

        model.training.Should().BeFalse();
    }

    [Test]
    public void Observe_builds_no_gradient_and_leaves_gradients_enabled()
    {
        using var model = Linear(3, 2);
        var requiresGradient = true;
        var comparison = Comparison();
        comparison.Add("model", inputs =>
        {
            var predictions = model.call(inputs);
            requiresGradient = predictions.requires_grad;
            return predictions;
        }, new ClassificationEvaluator());

        comparison.Observe(zeros(2, 3), zeros(2, ScalarType.Int64));

        requiresGradient.Should().BeFalse();
        is_grad_enabled().Should().BeTrue();
    }

    [Test]
    public void Observe_that_one_model_makes_impossible_counts_for_none()
    {
        var comparison = new PrequentialComparison((predictions, _) => predictions.mean());
        comparison.Add("three classes", inputs => inputs * 1, new ClassificationEvaluator());
        comparison.Add("two classes", inputs => inputs[.., ..2], new ClassificationEvaluator());

        var observe = () => comparison.Observe(zeros(2, 3), tensor(new[] { 0L, 2L }));

        observe.Should().Throw<ArgumentOutOfRangeException>().WithParameterName("targets");
        comparison.Evaluators.Values.Should().AllSatisfy(e => e.Summary.Should().Be(new PrequentialSummary()));
    }

    [Test]
    public void Observe_checks_the_targets_before_the_loss_function_sees_them()
    {
        var comparison = new PrequentialComparison((_, _) => throw new InvalidOperationException("The loss function was called."));
        comparison.Add("model", inputs => inputs * 1, new ClassificationEvaluator());

        var observe = () => comparison.Observe(zeros(1, 3), tensor(new[] { 3L }));

        observe.Should().Throw<ArgumentOutOfRangeException>();
    }

    [Test]
    public void Observe_a_loss_that_is_no_scalar_is_refused()
    {
        var comparison = new PrequentialComparison((predictions, _) => predictions * 2);
        comparison.Add("model", inputs => inputs * 1, new ClassificationEvaluator());

        var observe = () => comparison.Observe(zeros(2, 3), zeros(2, ScalarType.Int64));

        observe.Should().Throw<InvalidOperationException>().WithMessage("*'model'*[2, 3]*scalar*");
        comparison.Evaluators["model"].Summary.Samples.Should().Be(0);
    }

    [Test]
    public void Observe_null_from_a_model_is_refused()
    {
        var comparison = Comparison();
        comparison.Add("model", _ => null!, new ClassificationEvaluator());

        var observe = () => comparison.Observe(zeros(2, 3), zeros(2, ScalarType.Int64));

        observe.Should().Throw<InvalidOperationException>().WithMessage("*'model'*null*");
    }

    [Test]
    public void Observe_without_a_model_or_with_a_disposed_tensor_is_refused()
    {
        var comparison = Comparison();
        var (good, disposed) = (zeros(2, 3), zeros(2, 3));
        disposed.Dispose();

        comparison.Invoking(c => c.Observe(good, good)).Should().Throw<InvalidOperationException>().WithMessage("*no model*");
        comparison.Invoking(c => c.Observe(disposed, good)).Should().Throw<ObjectDisposedException>().WithMessage("*inputs*");
        comparison.Invoking(c => c.Observe(good, disposed)).Should().Throw<ObjectDisposedException>().WithMessage("*targets*");
    }

    [Test]
    public void Observe_leaves_no_tensor_behind_and_does_not_dispose_what_it_was_given()
    {
        using var model = Linear(3, 2);
        var comparison = new PrequentialComparison((predictions, targets) => functional.cross_entropy(predictions, targets));
        comparison.Add("module", model, new ClassificationEvaluator());
        comparison.Add("function", inputs => inputs, new ClassificationEvaluator());
        var (inputs, targets) = (zeros(2, 3), zeros(2, ScalarType.Int64));
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;

        for (var i = 0; i < 300; i++) comparison.Observe(inputs, targets);

        DisposeScopeManager.Statistics.ThreadTotalLiveCount.Should().Be(before);
        inputs.IsInvalid.Should().BeFalse();
    }

    [Test]
    public void Add_what_cannot_be_told_apart_is_refused()
    {
        var comparison = Comparison();
        var evaluator = new ClassificationEvaluator();
        comparison.Add("a", inputs => inputs, evaluator);

        comparison.Invoking(c => c.Add("a", inputs => inputs, new ClassificationEvaluator()))
            .Should().Throw<ArgumentException>().WithParameterName("name").WithMessage("*'a'*");
        comparison.Invoking(c => c.Add("b", inputs => inputs, evaluator))
            .Should().Throw<ArgumentException>().WithParameterName("evaluator").WithMessage("*'a'*'b'*");
        comparison.Invoking(c => c.Add("", inputs => inputs, new ClassificationEvaluator()))
            .Should().Throw<ArgumentException>().WithParameterName("name");
        comparison.Evaluators.Keys.Should().Equal("a");
    }

    [Test]
    public void Add_an_evaluator_of_losses_where_there_is_no_loss_is_refused()
    {
        Comparison().Invoking(c => c.Add("a", inputs => inputs, new LossEvaluator()))
            .Should().Throw<ArgumentException>().WithParameterName("evaluator").WithMessage("*needs a loss*");
    }

    [Test]
    public void A_restored_comparison_goes_on_as_the_saved_one()
    {
        var (saved, restored) = (TwoModels("a", "é"), TwoModels("a", "é"));
        saved.Observe(rand(5, 3), zeros(5, ScalarType.Int64));

        EvaluatorState.Load(restored.LoadState, EvaluatorState.Save(saved.SaveState));

        foreach (var (name, evaluator) in saved.Evaluators) restored.Evaluators[name].Summary.Should().Be(evaluator.Summary);
        saved.Reset();
        saved.Evaluators.Values.Should().AllSatisfy(e => e.Summary.Should().Be(new PrequentialSummary()));
    }

    [Test]
    public void LoadState_of_other_models_or_cut_short_is_refused_and_changes_no_evaluator()
    {
        var saved = TwoModels("a", "b");
        saved.Observe(rand(5, 3), zeros(5, ScalarType.Int64));
        var state = EvaluatorState.Save(saved.SaveState);

        PrequentialComparison[] others = [TwoModels("a", "c"), TwoModels("b", "a"), TwoModels("a", "longer"), Comparison()];
        foreach (var other in others) ShouldNotLoad(other, state);
        for (var length = 0; length < state.Length; length++) ShouldNotLoad(TwoModels("a", "b"), state[..length]);

        static void ShouldNotLoad(PrequentialComparison comparison, byte[] state)
        {
            var before = EvaluatorState.Save(comparison.SaveState);
            var load = () => EvaluatorState.Load(comparison.LoadState, state);
            load.Should().Throw<InvalidDataException>();
            EvaluatorState.Save(comparison.SaveState).ShouldBe(before);
        }
    }

    private static PrequentialComparison Comparison() => new();

    private static PrequentialComparison TwoModels(string first, string second)
    {
        var options = new ClassificationEvaluatorOptions { WindowSize = 2, ConfusionMatrixClasses = 0 };
        var comparison = Comparison();
        comparison.Add(first, inputs => inputs, new ClassificationEvaluator(options));
        comparison.Add(second, inputs => -inputs, new ClassificationEvaluator(options));
        return comparison;
    }
}
