using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using TorchSharp.Modules;
using static TorchSharp.torch.optim;

namespace ContinuousDL.Optimization;

/// <summary>
/// Stochastic gradient descent with momentum, Nesterov momentum and weight decay, as PyTorch's <c>torch.optim.SGD</c>
/// computes it, for all elements of a parameter or for selected ones only.
/// </summary>
/// <remarks>State: 4 bytes per parameter with momentum, none without.</remarks>
public sealed class FusedSgd : FusedOptimizer, IMomentum
{
    private readonly FusedSgdOptions defaults;

    /// <summary>Makes an optimizer over one group of parameters.</summary>
    /// <param name="parameters">The parameters. They stay the module's own.</param>
    /// <param name="learningRate">The learning rate, at least 0.</param>
    /// <param name="momentum">How much of the last steps' direction is kept, at least 0. Default: 0.</param>
    /// <param name="dampening">How much less than fully a gradient enters the momentum. Default: 0.</param>
    /// <param name="weightDecay">L2 penalty, at least 0. Default: 0.</param>
    /// <param name="nesterov">Looks one step of momentum ahead. Default: false.</param>
    /// <exception cref="ArgumentException">An option is out of range, or Nesterov momentum without momentum or with dampening.</exception>
    public FusedSgd(IEnumerable<Parameter> parameters, double learningRate, double momentum = 0, double dampening = 0, double weightDecay = 0, bool nesterov = false)
        : this([new ParamGroup<FusedSgdOptions>(parameters)], learningRate, momentum, dampening, weightDecay, nesterov)
    {
    }

    /// <summary>Makes an optimizer over several groups of parameters.</summary>
    /// <param name="groups">The groups, each with options of its own or none.</param>
    /// <param name="learningRate">The learning rate of groups that name none, at least 0.</param>
    /// <param name="momentum">Likewise, at least 0. Default: 0.</param>
    /// <param name="dampening">Likewise. Default: 0.</param>
    /// <param name="weightDecay">Likewise, at least 0. Default: 0.</param>
    /// <param name="nesterov">Likewise. Default: false.</param>
    /// <exception cref="ArgumentException">An option is out of range, or Nesterov momentum without momentum or with dampening.</exception>
    public FusedSgd(
        IEnumerable<ParamGroup<FusedSgdOptions>> groups, double learningRate, double momentum = 0, double dampening = 0, double weightDecay = 0, bool nesterov = false)
    {
        ArgumentNullException.ThrowIfNull(groups);
        defaults = new FusedSgdOptions
        {
            LearningRate = learningRate,
            Momentum = momentum,
            Dampening = dampening,
            WeightDecay = weightDecay,
            Nesterov = nesterov,
        };
        _defaults = defaults;
        foreach (var group in groups) add_param_group(group);
    }

    /// <summary>The momentum of all groups, for schedulers that change it.</summary>
    public double Momentum
    {
        get => defaults.Momentum!.Value;
        set
        {
            defaults.Momentum = value;
            foreach (var group in _parameter_groups) ((FusedSgdOptions)group.Options).Momentum = value;
        }
    }

    private protected override void CompleteOptions(ParamGroup group)
    {
        var options = group.Options as FusedSgdOptions ?? (group.Options is null ? new FusedSgdOptions() : throw new ArgumentException(
            $"The options of a parameter group of FusedSgd are FusedSgdOptions, not {group.Options.GetType().Name}.", nameof(group)));
        group.Options = options;
        options.LearningRate ??= defaults.LearningRate;
        options.Momentum ??= defaults.Momentum;
        options.Dampening ??= defaults.Dampening;
        options.WeightDecay ??= defaults.WeightDecay;
        options.Nesterov ??= defaults.Nesterov;
        OptionChecks.AtLeastZero(options.LearningRate!.Value, "learningRate");
        OptionChecks.AtLeastZero(options.Momentum!.Value, "momentum");
        OptionChecks.AtLeastZero(options.WeightDecay!.Value, "weightDecay");
        OptionChecks.Finite(options.Dampening!.Value, "dampening");
        if (options.Nesterov!.Value && (options.Momentum == 0 || options.Dampening != 0))
        {
            throw new ArgumentException("Nesterov momentum needs a momentum above 0 and no dampening.", "nesterov");
        }
    }

    private protected override ParamGroup ForSchedulers(ParamGroup group) => new Group { Parameters = group.Parameters, Options = group.Options };

    private protected override double[] OptionsOf(ParamGroup group)
    {
        var options = (FusedSgdOptions)group.Options;
        return [options.LearningRate!.Value, options.Momentum!.Value, options.Dampening!.Value, options.WeightDecay!.Value, options.Nesterov!.Value ? 1 : 0];
    }

    private protected override void SetOptions(ParamGroup group, ReadOnlySpan<double> options)
    {
        var target = (FusedSgdOptions)group.Options;
        (target.LearningRate, target.Momentum, target.Dampening) = (options[0], options[1], options[2]);
        (target.WeightDecay, target.Nesterov) = (options[3], options[4] != 0);
    }

    private protected override int MomentsOf(ParamGroup group) => ((FusedSgdOptions)group.Options).Momentum == 0 ? 0 : 1;

    private protected override void Compute(ParameterState state, int start, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update)
    {
        var kernel = new Kernel(state);
        var momentum = kernel.HasMomentum ? state.Moment(0).Slice(start, gradient.Length) : default;
        var i = 0;
        if (Vector.IsHardwareAccelerated)
        {
            ref var g = ref MemoryMarshal.GetReference(gradient);
            ref var w = ref MemoryMarshal.GetReference(weights);
            ref var m = ref MemoryMarshal.GetReference(momentum);
            ref var u = ref MemoryMarshal.GetReference(update);
            for (; i <= gradient.Length - Vector<float>.Count; i += Vector<float>.Count)
            {
                var moment = kernel.HasMomentum ? Vector.LoadUnsafe(ref m, (nuint)i) : default;
                var result = kernel.Update(Vector.LoadUnsafe(ref g, (nuint)i), Vector.LoadUnsafe(ref w, (nuint)i), ref moment);
                if (kernel.HasMomentum) moment.StoreUnsafe(ref m, (nuint)i);
                result.StoreUnsafe(ref u, (nuint)i);
            }
        }

        float none = 0;
        for (; i < gradient.Length; i++)
        {
            update[i] = kernel.Update(gradient[i], weights[i], ref kernel.HasMomentum ? ref momentum[i] : ref none);
        }
    }

    private protected override void ComputeAt(
        ParameterState state, ReadOnlySpan<int> elements, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update)
    {
        var kernel = new Kernel(state);
        var momentum = kernel.HasMomentum ? state.Moment(0) : default;
        float none = 0;
        for (var j = 0; j < elements.Length; j++)
        {
            update[j] = kernel.Update(gradient[j], weights[j], ref kernel.HasMomentum ? ref momentum[elements[j]] : ref none);
        }
    }

    private sealed class Group : ParamGroup, IMomentum
    {
        public double Momentum
        {
            get => ((FusedSgdOptions)Options).Momentum!.Value;
            set => ((FusedSgdOptions)Options).Momentum = value;
        }
    }

    /// <summary>One element's step; the same operations in the same order for one element and for a vector of them.</summary>
    private readonly struct Kernel
    {
        private readonly float learningRate, momentum, undamped, weightDecay;
        private readonly bool nesterov;

        public Kernel(ParameterState state)
        {
            var options = (FusedSgdOptions)state.Group.Options;
            learningRate = (float)options.LearningRate!.Value;
            momentum = (float)options.Momentum!.Value;

            // The first gradient enters the momentum undamped, as in PyTorch.
            undamped = state.Step == 1 ? 1 : (float)(1 - options.Dampening!.Value);
            weightDecay = (float)options.WeightDecay!.Value;
            nesterov = options.Nesterov!.Value;
            HasMomentum = momentum != 0;
        }

        public bool HasMomentum { get; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public float Update(float gradient, float weight, ref float moment)
        {
            var g = gradient + (weightDecay * weight);
            if (!HasMomentum) return -learningRate * g;
            moment = (momentum * moment) + (undamped * g);
            return -learningRate * (nesterov ? g + (momentum * moment) : moment);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector<float> Update(Vector<float> gradient, Vector<float> weight, ref Vector<float> moment)
        {
            var g = gradient + (weightDecay * weight);
            if (!HasMomentum) return -learningRate * g;
            moment = (momentum * moment) + (undamped * g);
            return -learningRate * (nesterov ? g + (momentum * moment) : moment);
        }
    }
}
