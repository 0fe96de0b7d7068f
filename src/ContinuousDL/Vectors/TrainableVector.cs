using ContinuousDL.Memory;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace ContinuousDL.Vectors;

/// <summary>
/// The parameters that an update rule trains, as one flat vector of n coordinates in the order of the model's layout, with
/// the gradients of the current step.
/// </summary>
/// <remarks>
/// Gradients and weights are shown as float32 in row-major order: a tensor's own memory where it is contiguous float32 on the
/// CPU, otherwise a copy. What a span shows is valid until the end of the step.
/// </remarks>
public sealed class TrainableVector
{
    private readonly TensorSlot[] slots;
    private readonly IReadOnlyList<Tensor>[] handles;
    private readonly Tensor[] all;
    private readonly Parameter[] ruleParameters;
    private readonly int[] ruleIndices;
    private readonly int[] vectorIndices;
    private readonly bool[] ruleFlags;
    private readonly bool[] hasGradient;
    private readonly bool[] hasMoved;
    private readonly Tensor?[] gradientTensors;
    private readonly FloatView[] gradients;
    private readonly FloatView[] weights;
    private readonly bool[] gradientsTaken;
    private readonly bool[] weightsTaken;
    private double norm = double.NaN;

    internal TrainableVector(ModelTensors model, IReadOnlyList<Parameter> trained, OwedWhenFrozen owedWhenFrozen = OwedWhenFrozen.Wait)
    {
        OwedWhenFrozen = owedWhenFrozen;
        var entries = EntriesOf(model, trained);
        var chosen = entries.Distinct().Order().ToArray();
        if (chosen.Length == 0) throw new ArgumentException("The optimizer has no parameters.");
        slots = [.. chosen.Select(e => model.Slots[e])];
        handles = [.. chosen.Select(e => model.Handles[e])];
        all = [.. Enumerable.Range(0, model.Slots.Count).Where(e => model.Slots[e].Entry.Kind == CoordinateKind.Parameter).SelectMany(e => model.Handles[e])];
        vectorIndices = [.. entries.Select(e => Array.BinarySearch(chosen, e))];
        ruleIndices = [.. chosen.Select(e => Array.IndexOf(entries, e))];
        ruleParameters = [.. ruleIndices.Select(p => trained[p])];
        ruleFlags = new bool[entries.Length];
        Layout = new VectorLayout([.. slots.Select(s => s.Entry.Length)]);
        Parameters = [.. slots.Select(s => (Parameter)s.Tensor)];
        hasGradient = new bool[slots.Length];
        hasMoved = new bool[slots.Length];
        gradientTensors = new Tensor?[slots.Length];
        gradients = new FloatView[slots.Length];
        weights = new FloatView[slots.Length];
        gradientsTaken = new bool[slots.Length];
        weightsTaken = new bool[slots.Length];
    }

    /// <summary>The tensors of the vector and where each starts.</summary>
    public VectorLayout Layout { get; }

    /// <summary>How many handles of them the rule had when the vector was made of it: a tied weight may have several.</summary>
    internal int RuleCount => ruleFlags.Length;

    /// <summary>The parameters, in the order of the vector. They stay the module's own.</summary>
    public IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>Which of the parameters have a gradient in this step.</summary>
    public ReadOnlySpan<bool> HasGradient => hasGradient;

    /// <summary>
    /// Which of the parameters something else than the optimizer has written to since the last step, such as a forward pass that
    /// clips weights. Where the deployed parameters are the trained ones, they have the new values already; a strategy that keeps
    /// them apart must not lose the difference.
    /// </summary>
    public ReadOnlySpan<bool> HasMoved => hasMoved;

    /// <summary>The Euclidean norm of the gradients of this step, computed when first asked for.</summary>
    public double GradientNorm
    {
        get
        {
            if (!double.IsNaN(norm)) return norm;
            var sum = 0.0;
            for (var t = 0; t < slots.Length; t++)
            {
                if (!hasGradient[t]) continue;
                foreach (var value in Gradient(t)) sum += (double)value * value;
            }

            return norm = Math.Sqrt(sum);
        }
    }

    /// <summary>What becomes of the values that a parameter is owed while it is frozen, as the trainer's options say.</summary>
    public OwedWhenFrozen OwedWhenFrozen { get; }

    /// <summary>The parameters with their places in the model's layout, in the order of the vector. They stay the module's own.</summary>
    public IReadOnlyList<TensorSlot> Slots => slots;

    /// <summary>Whether a parameter is frozen: it does not require a gradient at the moment.</summary>
    /// <param name="tensor">Its index in the vector.</param>
    public bool IsFrozen(int tensor)
    {
        foreach (var handle in handles[tensor])
        {
            if (handle.requires_grad) return false;
        }

        return true;
    }

    /// <summary>The index of a parameter in the rule's <c>Parameters</c>; the first, where the rule has several handles of it.</summary>
    /// <param name="tensor">Its index in the vector.</param>
    public int RuleIndex(int tensor) => ruleIndices[tensor];

    /// <summary>The gradient of a parameter. Only to be asked for where <see cref="HasGradient"/>.</summary>
    /// <param name="tensor">Its index in the vector.</param>
    public ReadOnlySpan<float> Gradient(int tensor)
    {
        if (!gradientsTaken[tensor])
        {
            gradients[tensor] = FloatView.Of(gradientTensors[tensor]!);
            gradientsTaken[tensor] = true;
        }

        return gradients[tensor].Span;
    }

    /// <summary>The values of a parameter, as they were when first asked for in this step (or as they are, where they are shown in place).</summary>
    /// <param name="tensor">Its index in the vector.</param>
    public ReadOnlySpan<float> Weights(int tensor)
    {
        if (!weightsTaken[tensor])
        {
            weights[tensor] = FloatView.Of(slots[tensor].Tensor);
            weightsTaken[tensor] = true;
        }

        return weights[tensor].Span;
    }

    /// <summary>Flags in the order of a rule's parameters, from flags in the order of the vector.</summary>
    /// <param name="flags">A flag for each tensor of the vector.</param>
    /// <returns>A flag for each of the rule's parameters; valid until the next call.</returns>
    public ReadOnlySpan<bool> ForRule(ReadOnlySpan<bool> flags)
    {
        for (var p = 0; p < ruleFlags.Length; p++) ruleFlags[p] = flags[vectorIndices[p]];
        return ruleFlags;
    }

    /// <summary>Writes another gradient into the parameters' <c>grad</c>, for rules that read it there.</summary>
    /// <param name="gradient">The gradient, over the whole vector.</param>
    /// <param name="flags">Which parameters get a gradient; the others get none.</param>
    public void ReplaceGradients(CompressedGradient gradient, ReadOnlySpan<bool> flags)
    {
        ArgumentNullException.ThrowIfNull(gradient);
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        gradient.Dequantize();
        for (var t = 0; t < slots.Length; t++)
        {
            var parameter = ruleParameters[t];
            if (!flags[t])
            {
                parameter.grad = null;
                continue;
            }

            var values = zeros(parameter.shape, dtype: ScalarType.Float32, device: CPU);
            using (var view = FloatView.Of(values))
            {
                var target = view.Span;
                if (gradient.Form == CompressedForm.Sparse)
                {
                    var part = SparseRange(gradient, t);
                    for (var j = part.Start.Value; j < part.End.Value; j++) target[gradient.Indices[j] - Layout.Offsets[t]] = gradient.Values[j];
                }
                else
                {
                    gradient.Values[Layout[t]].CopyTo(target);
                }
            }

            // Laid out as the parameter, which is what autograd promises and optimizers take over for their moments.
            parameter.grad = empty_like(parameter).copy_(values);
        }
    }

    /// <summary>Takes the coordinates of parameters without a gradient in this step off what is to be sent: they stay still.</summary>
    /// <param name="sent">What is to be sent, sparse, over this vector. Keeps the other coordinates in their order.</param>
    /// <exception cref="ArgumentException"><paramref name="sent"/> is not sparse, or is of a vector of another length.</exception>
    public void ExcludeWithoutGradient(CompressedGradient sent)
    {
        ArgumentNullException.ThrowIfNull(sent);
        if (sent.Form != CompressedForm.Sparse || sent.Length != Layout.Length)
        {
            throw new ArgumentException($"What is to be sent is {sent.Form}, of {sent.Length} coordinates; it must be sparse, of the vector's {Layout.Length}.", nameof(sent));
        }

        var indices = sent.Indices;
        var values = sent.Values;
        var (kept, t) = (0, 0);
        for (var j = 0; j < indices.Length; j++)
        {
            while (Layout.Offsets[t + 1] <= indices[j]) t++;
            if (!hasGradient[t]) continue;
            (indices[kept], values[kept]) = (indices[j], values[j]);
            kept++;
        }

        sent.SetSparse(sent.Length, kept);
    }

    /// <summary>Which of a sparse gradient's entries belong to a tensor.</summary>
    internal Range SparseRange(CompressedGradient gradient, int tensor)
    {
        var start = CoordinateSearch.CountBelow(gradient.Indices, Layout.Offsets[tensor]);
        return start..(start + CoordinateSearch.CountBelow(gradient.Indices[start..], Layout.Offsets[tensor + 1]));
    }

    /// <summary>Takes the gradients of a backward pass.</summary>
    /// <param name="nonFinite">The name of the first parameter with a gradient that is not finite, or null.</param>
    /// <returns>Whether all of them are finite.</returns>
    internal bool Collect(out string? nonFinite)
    {
        nonFinite = null;
        norm = double.NaN;
        for (var t = 0; t < slots.Length; t++)
        {
            var gradient = handles[t].Count == 1 ? slots[t].Tensor.grad : GradientOfAll(t);
            hasGradient[t] = gradient is not null;
            if (gradient is null) continue;
            gradientTensors[t] = gradient.DetachFromDisposeScope();
            if (nonFinite is null && !AllFinite(t)) nonFinite = slots[t].Entry.Name;
        }

        return nonFinite is null;
    }

    /// <summary>Takes note of whether something else than the optimizer has written to a parameter.</summary>
    internal void NoteMove(int tensor, bool hasMoved) => this.hasMoved[tensor] = hasMoved;

    /// <summary>Ends a step: lets go of the views, and of the gradients themselves, so that the next backward pass makes new ones instead of adding.</summary>
    internal void Clear()
    {
        for (var t = 0; t < slots.Length; t++)
        {
            if (gradientsTaken[t])
            {
                gradients[t].Dispose();
                gradientsTaken[t] = false;
            }

            if (hasGradient[t])
            {
                gradientTensors[t]?.Dispose();
                gradientTensors[t] = null;
                hasGradient[t] = false;
            }

            if (weightsTaken[t])
            {
                weights[t].Dispose();
                weightsTaken[t] = false;
            }

            hasMoved[t] = false;
        }

        // Of all parameters: those that are not trained would add up gradients for ever.
        foreach (var parameter in all) parameter.grad = null;
    }

    /// <summary>Finds for each of a rule's parameters which of the model's tensors it is.</summary>
    private static int[] EntriesOf(ModelTensors model, IReadOnlyList<Parameter> trained)
    {
        var entries = new Dictionary<TensorIdentity, int>();
        for (var e = 0; e < model.Slots.Count; e++)
        {
            if (model.Slots[e].Entry.Kind == CoordinateKind.Parameter) entries.Add(TensorIdentity.Of(model.Slots[e].Tensor), e);
        }

        var result = new int[trained.Count];
        var handles = new HashSet<nint>();
        for (var p = 0; p < result.Length; p++)
        {
            var parameter = trained[p];
            if (!entries.TryGetValue(TensorIdentity.Of(parameter), out result[p]))
            {
                throw new ArgumentException(
                    $"The optimizer's parameter {p}, of shape [{string.Join(", ", parameter.shape)}], is not one of the model's. Make the optimizer over model.parameters().");
            }

            // Several handles of one tensor are what TorchSharp lists for tied weights; one handle twice is a mistake.
            if (!handles.Add(parameter.Handle)) throw new ArgumentException($"The optimizer has the parameter '{model.Slots[result[p]].Entry.Name}' more than once.");
        }

        return result;
    }

    /// <summary>
    /// The gradient of a parameter that has several handles: one where they are of one tensor, the sum where they are of several tensors
    /// over the same memory. It is then also where the rule looks for it.
    /// </summary>
    private Tensor? GradientOfAll(int tensor)
    {
        using var guard = no_grad();
        Tensor? sum = null;
        foreach (var handle in handles[tensor])
        {
            var gradient = handle.grad;
            if (gradient is null) continue;

            // Taken away, so that no other handle of the same tensor shows it again.
            handle.grad = null;
            if (sum is null)
            {
                sum = gradient;
                continue;
            }

            using (gradient)
            using (var before = sum) sum = before.Plus(gradient);
        }

        if (sum is not null) ruleParameters[tensor].grad = sum;
        return sum;
    }

    private bool AllFinite(int tensor)
    {
        if (gradientTensors[tensor]!.device_type == DeviceType.CPU) return Finiteness.AllFinite(Gradient(tensor));

        // On another device it is checked there: copying every gradient over would cost more than the step.
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        return gradientTensors[tensor]!.isfinite().all().item<bool>();
    }
}
