using ContinuousDL.Evaluation;
using ContinuousDL.Optimization;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.Trainer;

/// <summary>Arrivals of every kind of target that the losses of PyTorch take are evaluated and trained on.</summary>
public class EvaluatedTargetsTests
{
    [Test]
    public void Pixels_with_some_to_ignore()
    {
        using var model = Segmenter();
        using var loss = nn.CrossEntropyLoss();
        var evaluator = new ClassificationEvaluator();

        Train(model, loss, evaluator, n =>
        {
            var targets = randint(0, 3, [n, 4, 4], ScalarType.Int64);
            targets[0, 0, 0] = -100L;
            return (randn(n, 2, 4, 4), targets);
        });

        evaluator.Summary.Samples.Should().Be(5 * (4 * 16 - 1));
        evaluator.Summary.IgnoredSamples.Should().Be(5);
        evaluator.Summary.Accuracy.Should().NotBeNull();
    }

    [Test]
    public void Several_labels()
    {
        using var model = TestModels.Mlp();
        using var loss = nn.BCEWithLogitsLoss();
        var evaluator = new MultiLabelEvaluator();

        Train(model, loss, evaluator, n => (randn(n, TestModels.Features), randint(0, 2, [n, TestModels.Classes], ScalarType.Float32)));

        evaluator.Summary.Samples.Should().Be(20);
        evaluator.Labels!.LabelCount.Should().Be(TestModels.Classes);
    }

    [Test]
    public void Soft_labels()
    {
        using var model = TestModels.Mlp();
        using var loss = nn.CrossEntropyLoss();
        var evaluator = new ClassificationEvaluator();

        Train(model, loss, evaluator, n => (randn(n, TestModels.Features), randn(n, TestModels.Classes).softmax(1)));

        evaluator.Summary.Samples.Should().Be(20);
    }

    [Test]
    public void Evaluator_that_needs_predictions_is_refused_where_nothing_predicts()
    {
        using var model = TestModels.Mlp();
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var loss = nn.BCEWithLogitsLoss();

        var make = () => new ProactiveTrainer(
            model, (inputs, targets) => loss.call(model.call(inputs), targets), optimizer, components: new() { Evaluator = new MultiLabelEvaluator() });

        make.Should().Throw<ArgumentException>().WithParameterName("predict").WithMessage("*MultiLabelEvaluator*");
    }

    private static Sequential Segmenter() => nn.Sequential(nn.Conv2d(2, 3, 3, padding: 1L));

    private static void Train(Sequential model, Loss<Tensor, Tensor, Tensor> loss, IPrequentialEvaluator evaluator, Func<int, (Tensor, Tensor)> arrivals)
    {
        using var optimizer = new FusedSgd(model.parameters(), 0.1);
        using var trainer = new ProactiveTrainer(model, loss, optimizer, new() { BatchSize = 8, TriggerSize = 4 }, new() { Evaluator = evaluator });
        for (var step = 0; step < 5; step++)
        {
            using var scope = NewDisposeScope();
            var (inputs, targets) = arrivals(4);
            trainer.Step(inputs, targets).Dispose();
        }
    }
}
