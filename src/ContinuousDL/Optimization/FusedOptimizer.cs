using System.Buffers;
using System.Numerics.Tensors;
using ContinuousDL.Memory;
using ContinuousDL.Parameters;
using ContinuousDL.Replication.Models;
using ContinuousDL.State;
using TorchSharp.Modules;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace ContinuousDL.Optimization;

/// <summary>
/// Base of the library's own optimizers: TorchSharp optimizers (param groups, learning-rate schedulers, <c>step()</c>) that
/// work on blocks of a parameter, so that moments, update, residual and selection share one pass over memory.
/// </summary>
/// <remarks>Moments are float32, allocated when a parameter has its first gradient.</remarks>
public abstract class FusedOptimizer : OptimizerHelper, IUpdateRule
{
    /// <summary>Elements per block: the few arrays of a step fit into the first-level cache together.</summary>
    internal const int BlockSize = 2048;

    /// <summary>The most moments that any of the optimizers keeps for an element.</summary>
    private const int MostMoments = 3;

    private readonly List<ParameterState> states = [];
    private bool disposed;

    private protected FusedOptimizer()
    {
        _parameter_groups = new List<ParamGroup>();
    }

    /// <inheritdoc />
    public IReadOnlyList<Parameter> Parameters { get; private set; } = [];

    /// <inheritdoc />
    public bool ReadsParameterGradients => false;

    /// <summary>Adds a parameter group; options that it leaves out are those of the optimizer.</summary>
    /// <param name="param_group">
    /// The group. Its parameters stay the module's own. A parameter that is listed under several handles, as tied weights may be, is
    /// taken once.
    /// </param>
    /// <exception cref="ArgumentException">A parameter is in a group already, or has a dtype that cannot be trained.</exception>
    public override void add_param_group(ParamGroup param_group)
    {
        ArgumentNullException.ThrowIfNull(param_group);
        var listed = param_group.Parameters.ToArray();
        var parameters = listed.DistinctBy(TensorIdentity.Of).ToArray();
        var present = states.Select(s => TensorIdentity.Of(s.Parameter)).ToHashSet();
        if (listed.DistinctBy(p => p.Handle).Count() < listed.Length || parameters.Any(p => present.Contains(TensorIdentity.Of(p))))
        {
            throw new ArgumentException("A parameter can be in one parameter group only, once.", nameof(param_group));
        }

        foreach (var parameter in parameters)
        {
            if (!Scalars.IsTrainable((DType)parameter.dtype))
            {
                throw new ArgumentException($"A parameter of dtype {parameter.dtype} cannot be trained; use float32, float64, bfloat16 or float16.", nameof(param_group));
            }
        }

        param_group.Parameters = parameters;
        CompleteOptions(param_group);
        param_group.InitialLearningRate = param_group.LearningRate;
        var group = ForSchedulers(param_group);
        _parameter_groups.Add(group);
        states.AddRange(parameters.Select(p => new ParameterState(p, group)));
        Parameters = [.. states.Select(s => s.Parameter)];
    }

    /// <inheritdoc />
    public void BeginStep(ReadOnlySpan<bool> hasGradient)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (hasGradient.Length != states.Count)
        {
            throw new ArgumentException($"{hasGradient.Length} flags for {states.Count} parameters.", nameof(hasGradient));
        }

        for (var p = 0; p < states.Count; p++)
        {
            states[p].IsInStep = hasGradient[p];
            if (hasGradient[p]) Begin(states[p]);
        }
    }

    /// <inheritdoc />
    public void ComputeUpdate(int parameter, int start, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update) =>
        Compute(states[parameter], start, gradient, weights, update);

    /// <inheritdoc />
    public void ComputeUpdateAt(int parameter, ReadOnlySpan<int> elements, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update) =>
        ComputeAt(states[parameter], elements, gradient, weights, update);

    /// <inheritdoc />
    public void ApplyUpdate()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        Apply(states.Where(s => s.IsInStep));
    }

    /// <summary>Applies the update of every parameter that has a gradient, in place, as any TorchSharp optimizer does.</summary>
    /// <param name="closure">Computes the loss again, if given.</param>
    /// <returns>The closure's loss, or null.</returns>
    public override Tensor step(Func<Tensor>? closure = null)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        var loss = closure?.Invoke();
        Apply(states.Where(HasGradient).Select(Begin));
        return loss!;

        static bool HasGradient(ParameterState state)
        {
            using var gradient = state.Parameter.grad;
            return gradient is not null;
        }
    }

    /// <summary>Not supported: the moments are no tensors. Use <see cref="SavedState.SaveState"/>.</summary>
    /// <returns>Nothing.</returns>
    /// <exception cref="NotSupportedException">Always.</exception>
    public override StateDictionary state_dict() => throw new NotSupportedException("Use SaveState and LoadState: the moments are kept as memory, not as tensors.");

    /// <inheritdoc />
    public void Reset()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        foreach (var state in states)
        {
            state.Moments?.Dispose();
            (state.Step, state.Moments) = (0, null);
        }
    }

    string IStateful.StateKind => GetType().Name;

    void IStateful.WriteState(BinaryWriter writer)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        writer.Write(_parameter_groups.Count);
        foreach (var group in _parameter_groups)
        {
            writer.Write(group.InitialLearningRate);
            foreach (var option in OptionsOf(group)) writer.Write(option);
        }

        writer.Write(states.Count);
        foreach (var state in states)
        {
            writer.Write(state.Step);
            writer.Write(state.Moments?.Length ?? 0);
            if (state.Moments is not null) NativeBufferSerialization.Write(writer, state.Moments);
        }
    }

    Action IStateful.ReadState(BinaryReader reader, int version)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        var options = ReadOptions(reader);
        var loaded = new List<(long Step, NativeBuffer<float>? Moments)>();
        try
        {
            var count = reader.ReadInt32();
            if (count != states.Count) throw new InvalidDataException($"The state has {count} parameters, the optimizer {states.Count}.");
            foreach (var state in states) loaded.Add(ReadMoments(reader, state));
        }
        catch
        {
            foreach (var (_, moments) in loaded) moments?.Dispose();
            throw;
        }

        return () => Take(options, loaded);
    }

    /// <summary>Fills in the options that a group leaves out, and validates them.</summary>
    private protected abstract void CompleteOptions(ParamGroup group);

    /// <summary>The group, with the same parameters and options, as schedulers that change more than the learning rate want it.</summary>
    private protected abstract ParamGroup ForSchedulers(ParamGroup group);

    /// <summary>The options of a group as numbers.</summary>
    private protected abstract double[] OptionsOf(ParamGroup group);

    /// <summary>Gives a group the options that <see cref="OptionsOf"/> told.</summary>
    private protected abstract void SetOptions(ParamGroup group, ReadOnlySpan<double> options);

    /// <summary>How many moments are kept for each element.</summary>
    private protected abstract int MomentsOf(ParamGroup group);

    private protected abstract void Compute(ParameterState state, int start, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update);

    private protected abstract void ComputeAt(
        ParameterState state, ReadOnlySpan<int> elements, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update);

    /// <inheritdoc />
    protected override void Dispose(bool disposing)
    {
        if (disposing && !disposed)
        {
            foreach (var state in states) state.Moments?.Dispose();
            disposed = true;
        }

        base.Dispose(disposing);
    }

    private List<(double InitialLearningRate, double[] Values)> ReadOptions(BinaryReader reader)
    {
        var count = reader.ReadInt32();
        if (count != _parameter_groups.Count) throw new InvalidDataException($"The state has {count} parameter groups, the optimizer {_parameter_groups.Count}.");
        var options = new List<(double InitialLearningRate, double[] Values)>();
        foreach (var group in _parameter_groups)
        {
            var initialLearningRate = reader.ReadDouble();
            var values = new double[OptionsOf(group).Length];
            for (var i = 0; i < values.Length; i++) values[i] = reader.ReadDouble();
            options.Add((initialLearningRate, values));
        }

        return options;
    }

    private static (long Step, NativeBuffer<float>? Moments) ReadMoments(BinaryReader reader, ParameterState state)
    {
        var (step, length) = (reader.ReadInt64(), reader.ReadInt32());
        if (step < 0 || (length != 0 && (length % Math.Max(1, state.Length) != 0 || length / Math.Max(1, state.Length) is < 0 or > MostMoments)))
        {
            throw new InvalidDataException($"The state has {length} moments after {step} steps for a parameter of {state.Length} elements.");
        }

        return (step, length == 0 ? null : NativeBufferSerialization.Read<float>(reader, length));
    }

    private void Take(List<(double InitialLearningRate, double[] Values)> options, List<(long Step, NativeBuffer<float>? Moments)> loaded)
    {
        for (var g = 0; g < options.Count; g++)
        {
            SetOptions(_parameter_groups[g], options[g].Values);
            _parameter_groups[g].InitialLearningRate = options[g].InitialLearningRate;
        }

        for (var p = 0; p < states.Count; p++)
        {
            states[p].Moments?.Dispose();
            (states[p].Step, states[p].Moments) = loaded[p];
        }
    }

    /// <summary>Counts a step, and makes room for the moments that the group's options want by now.</summary>
    private ParameterState Begin(ParameterState state)
    {
        state.Step++;
        var length = checked(MomentsOf(state.Group) * state.Length);
        if (state.Moments?.Length == length) return state;

        // An option that needs more moments was switched on meanwhile: those there are keep their values.
        var larger = new NativeBuffer<float>(length);
        state.Moments?.Span[..Math.Min(state.Moments.Length, length)].CopyTo(larger.Span);
        state.Moments?.Dispose();
        state.Moments = larger;
        return state;
    }

    private void Apply(IEnumerable<ParameterState> chosen)
    {
        var update = ArrayPool<float>.Shared.Rent(BlockSize);
        foreach (var state in chosen)
        {
            using var gradient = state.Parameter.grad;
            if (gradient is not null) Apply(state, gradient, update.AsSpan(0, BlockSize));
        }

        ArrayPool<float>.Shared.Return(update);
    }

    private void Apply(ParameterState state, Tensor gradient, Span<float> update)
    {
        using var gradientView = FloatView.Of(gradient);
        using var weightView = FloatView.Of(state.Parameter);
        var gradients = gradientView.Span;
        var weights = weightView.Span;
        for (var start = 0; start < state.Length; start += BlockSize)
        {
            var length = Math.Min(BlockSize, state.Length - start);
            var block = weights.Slice(start, length);
            Compute(state, start, gradients.Slice(start, length), block, update[..length]);
            if (weightView.IsDirect) TensorPrimitives.Add(block, update[..length], block);
            else update[..length].CopyTo(block);
        }

        // Weights of another dtype get the update added in their own precision; going through float32 would round them.
        if (!weightView.IsDirect) weightView.AddToTensor();
    }

    /// <summary>A parameter, its group, and the moments kept for it: moment m of element i at <c>m · Length + i</c>.</summary>
    private protected sealed class ParameterState(Parameter parameter, ParamGroup group)
    {
        public Parameter Parameter { get; } = parameter;

        public ParamGroup Group { get; } = group;

        public int Length { get; } = checked((int)parameter.numel());

        /// <summary>How many steps the parameter has taken.</summary>
        public long Step { get; set; }

        /// <summary>Whether the step that began takes the parameter along.</summary>
        public bool IsInStep { get; set; }

        public NativeBuffer<float>? Moments { get; set; }

        public Span<float> Moment(int moment) => Moments!.Span.Slice(moment * Length, Length);
    }
}
