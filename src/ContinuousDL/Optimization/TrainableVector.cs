using System.Numerics;
using System.Runtime.InteropServices;
using ContinuousDL.Compression;
using ContinuousDL.Memory;
using ContinuousDL.Parameters;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace ContinuousDL.Optimization;

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
    private readonly Tensor[] all;
    private readonly int[] ruleIndices;
    private readonly bool[] hasGradient;
    private readonly bool[] hasMoved;
    private readonly Tensor?[] gradientTensors;
    private readonly FloatView[] gradients;
    private readonly FloatView[] weights;
    private readonly bool[] gradientsTaken;
    private readonly bool[] weightsTaken;
    private double norm = double.NaN;

    internal TrainableVector(ModelTensors model, IUpdateRule rule)
    {
        var byHandle = model.Slots.Where(s => s.Entry.Kind == CoordinateKind.Parameter).ToDictionary(s => s.Tensor.Handle);
        var chosen = new List<(TensorSlot Slot, int RuleIndex)>();
        for (var p = 0; p < rule.Parameters.Count; p++)
        {
            if (!byHandle.TryGetValue(rule.Parameters[p].Handle, out var slot))
            {
                throw new ArgumentException(
                    $"The optimizer's parameter {p}, of shape [{string.Join(", ", rule.Parameters[p].shape)}], is not one of the model's. Make the optimizer over model.parameters().");
            }

            if (chosen.Any(c => ReferenceEquals(c.Slot, slot))) throw new ArgumentException($"The optimizer has the parameter '{slot.Entry.Name}' more than once.");
            chosen.Add((slot, p));
        }

        if (chosen.Count == 0) throw new ArgumentException("The optimizer has no parameters.");
        chosen.Sort((a, b) => a.Slot.Entry.Offset.CompareTo(b.Slot.Entry.Offset));
        slots = [.. chosen.Select(c => c.Slot)];
        all = [.. byHandle.Values.Select(s => s.Tensor)];
        ruleIndices = [.. chosen.Select(c => c.RuleIndex)];
        Layout = new VectorLayout([.. slots.Select(s => s.Entry.Length)]);
        Parameters = [.. slots.Select(s => (Parameter)s.Tensor)];
        hasGradient = new bool[slots.Length];
        hasMoved = new bool[slots.Length];
        gradientTensors = new Tensor?[slots.Length];
        gradients = new FloatView[slots.Length];
        weights = new FloatView[slots.Length];
        gradientsTaken = new bool[slots.Length];
        weightsTaken = new bool[slots.Length];
        RuleFlags = new bool[slots.Length];
    }

    /// <summary>The tensors of the vector and where each starts.</summary>
    public VectorLayout Layout { get; }

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

    internal IReadOnlyList<TensorSlot> Slots => slots;

    private bool[] RuleFlags { get; }

    /// <summary>The index of a parameter in <see cref="IUpdateRule.Parameters"/>.</summary>
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
        for (var t = 0; t < slots.Length; t++) RuleFlags[ruleIndices[t]] = flags[t];
        return RuleFlags;
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
            var parameter = Parameters[t];
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

            parameter.grad = values.to(parameter.dtype).to(parameter.device);
        }
    }

    /// <summary>Which of a sparse gradient's entries belong to a tensor.</summary>
    internal Range SparseRange(CompressedGradient gradient, int tensor)
    {
        var start = CoordinateRange.CountBelow(gradient.Indices, Layout.Offsets[tensor]);
        return start..(start + CoordinateRange.CountBelow(gradient.Indices[start..], Layout.Offsets[tensor + 1]));
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
            var gradient = slots[t].Tensor.grad;
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

    private bool AllFinite(int tensor)
    {
        if (gradientTensors[tensor]!.device_type == DeviceType.CPU) return AllFinite(Gradient(tensor));

        // On another device it is checked there: copying every gradient over would cost more than the step.
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        return gradientTensors[tensor]!.isfinite().all().item<bool>();
    }

    private static bool AllFinite(ReadOnlySpan<float> values)
    {
        const int exponent = 0x7f800000;
        var bits = MemoryMarshal.Cast<float, int>(values);
        var i = 0;
        if (Vector.IsHardwareAccelerated)
        {
            var mask = new Vector<int>(exponent);
            for (; i <= bits.Length - Vector<int>.Count; i += Vector<int>.Count)
            {
                if (Vector.EqualsAny(new Vector<int>(bits[i..]) & mask, mask)) return false;
            }
        }

        for (; i < bits.Length; i++)
        {
            if ((bits[i] & exponent) == exponent) return false;
        }

        return true;
    }
}
