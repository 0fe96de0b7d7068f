using System.Text;
using ContinuousDL.Memory;
using ContinuousDL.State;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Evaluation;

/// <summary>
/// Evaluates several models on the same arrivals, for example the initial, the trained and the deployed one.
/// </summary>
/// <remarks>
/// A batch counts for all of the models or, when anything about it is refused, for none. The models run one after the other,
/// without gradients. Models and evaluators stay the caller's. The state is everything that was counted, but not the models; it fits
/// models of the same names in the same order. Not thread-safe.
/// </remarks>
/// <example>
/// <code>
/// var comparison = new PrequentialComparison((predictions, targets) => nn.functional.cross_entropy(predictions, targets));
/// comparison.Add("initial", initialModel, new ClassificationEvaluator());
/// comparison.Add("deployed", replica, new ClassificationEvaluator());
/// comparison.Observe(inputs, targets);
/// Console.WriteLine(comparison.Evaluators["deployed"].Summary.Accuracy?.Cumulative);
/// </code>
/// </example>
/// <param name="loss">
/// The mean loss of a batch, a scalar, from predictions and targets; null when no loss is to be measured.
/// </param>
public sealed class PrequentialComparison(Func<Tensor, Tensor, Tensor>? loss = null) : IStateful
{
    private readonly OrderedDictionary<string, IPrequentialEvaluator> evaluators = new(StringComparer.Ordinal);
    private readonly List<(string Name, Func<Tensor, Tensor> Predict, IPrequentialEvaluator Evaluator)> models = [];
    private readonly List<(Tensor Predictions, double? Loss)> results = [];

    /// <summary>The evaluator of each model, by its name, in the order in which they were added.</summary>
    public IReadOnlyDictionary<string, IPrequentialEvaluator> Evaluators => evaluators;

    /// <summary>Adds a model, which is put in evaluation mode for each batch and back in the mode of its modules afterwards.</summary>
    /// <param name="name">Its name; compared by its characters.</param>
    /// <param name="model">The model.</param>
    /// <param name="evaluator">The evaluator of this model and no other.</param>
    /// <exception cref="ArgumentException">
    /// The name is empty, or taken; or the evaluator measures another model already, or needs a loss where there is none.
    /// </exception>
    public void Add(string name, nn.Module<Tensor, Tensor> model, IPrequentialEvaluator evaluator)
    {
        ArgumentNullException.ThrowIfNull(model);
        Add(name, Predict, evaluator);

        Tensor Predict(Tensor inputs)
        {
            using var mode = EvaluationMode.Enter(model);
            return model.call(inputs);
        }
    }

    /// <summary>Adds a model that is given as a function.</summary>
    /// <param name="name">Its name; compared by its characters.</param>
    /// <param name="predict">
    /// Gives the predictions for a batch of inputs. Tensors that it makes are disposed when they were counted.
    /// </param>
    /// <param name="evaluator">The evaluator of this model and no other.</param>
    /// <exception cref="ArgumentException">
    /// The name is empty, or taken; or the evaluator measures another model already, or needs a loss where there is none.
    /// </exception>
    public void Add(string name, Func<Tensor, Tensor> predict, IPrequentialEvaluator evaluator)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(predict);
        ArgumentNullException.ThrowIfNull(evaluator);
        if (loss is null && evaluator.NeedsLoss)
        {
            throw new ArgumentException($"The evaluator of '{name}' needs a loss, and this comparison has no loss function.",
                nameof(evaluator));
        }

        if (evaluators.ContainsKey(name)) throw new ArgumentException($"There is a model '{name}' already.", nameof(name));
        foreach (var (other, _, itsEvaluator) in models)
        {
            if (!ReferenceEquals(itsEvaluator, evaluator)) continue;
            throw new ArgumentException($"The evaluator measures the model '{other}' already; '{name}' needs one of its own.",
                nameof(evaluator));
        }

        evaluators.Add(name, evaluator);
        models.Add((name, predict, evaluator));
    }

    /// <summary>Lets every model predict a batch of arrivals and counts the results.</summary>
    /// <param name="inputs">The inputs, <c>[N, ...]</c>, where the models can take them. Stays the caller's.</param>
    /// <param name="targets">The targets, <c>[N, ...]</c>. Stays the caller's.</param>
    /// <exception cref="ArgumentException">
    /// An evaluator refuses the batch, as <see cref="IPrequentialEvaluator.Observe"/> says. Nothing was counted.
    /// </exception>
    /// <exception cref="InvalidOperationException">
    /// There is no model; a model or the loss function gave null; or a loss is not a scalar. Nothing was counted.
    /// </exception>
    /// <exception cref="ObjectDisposedException">One of the tensors is disposed.</exception>
    public void Observe(Tensor inputs, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(targets);
        if (inputs.IsInvalid) throw new ObjectDisposedException(nameof(inputs));
        if (targets.IsInvalid) throw new ObjectDisposedException(nameof(targets));
        if (models.Count == 0) throw new InvalidOperationException("There is no model to evaluate: add one first.");

        using var scope = NewDisposeScope();
        using var noGradient = no_grad();
        try
        {
            foreach (var (name, predict, evaluator) in models)
            {
                var predictions = predict(inputs) ?? throw new InvalidOperationException($"The model '{name}' gave null.");
                evaluator.Validate(predictions, targets);
                results.Add((predictions, MeanLoss(name, predictions, targets)));
            }

            for (var i = 0; i < models.Count; i++) models[i].Evaluator.Observe(results[i].Predictions, targets, results[i].Loss);
        }
        finally
        {
            results.Clear();
        }
    }

    /// <summary>Forgets everything that was counted. The models stay.</summary>
    public void Reset()
    {
        foreach (var (_, _, evaluator) in models) evaluator.Reset();
    }

    string IStateful.StateKind => nameof(PrequentialComparison);

    void IStateful.WriteState(BinaryWriter writer)
    {
        writer.Write(models.Count);
        foreach (var (name, _, evaluator) in models)
        {
            var bytes = Encoding.UTF8.GetBytes(name);
            writer.Write(bytes.Length);
            writer.Write(bytes);
            evaluator.SaveState(writer);
        }
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        var count = reader.ReadInt32();
        if (count != models.Count) throw new InvalidDataException($"The state is that of {count} models; there are {models.Count}.");
        var takeAll = new List<Action>();
        foreach (var (name, _, evaluator) in models)
        {
            var expected = Encoding.UTF8.GetBytes(name);
            if (reader.ReadInt32() != expected.Length || !reader.ReadBytes(expected.Length).AsSpan().SequenceEqual(expected))
            {
                throw new InvalidDataException($"The state has another model in the place of '{name}'.");
            }

            takeAll.Add(evaluator.ReadState(reader));
        }

        return () => takeAll.ForEach(static take => take());
    }

    private double? MeanLoss(string name, Tensor predictions, Tensor targets)
    {
        if (loss is null) return null;
        var value = loss(predictions, targets)
            ?? throw new InvalidOperationException($"The loss function gave null for the model '{name}'.");
        if (value.numel() == 1) return value.SingleNumber();
        throw new InvalidOperationException(
            $"The loss of the model '{name}' has the shape [{string.Join(", ", value.shape)}]; the mean of a batch is a scalar.");
    }
}
