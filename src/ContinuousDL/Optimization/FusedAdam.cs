using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using TorchSharp.Modules;
using static TorchSharp.torch.optim;

namespace ContinuousDL.Optimization;

/// <summary>
/// Adam (Kingma and Ba 2015), with AMSGrad (Reddi, Kale and Kumar 2018) and decoupled weight decay (AdamW, Loshchilov and
/// Hutter 2019) as options, as PyTorch computes them, for all elements of a parameter or for selected ones only.
/// </summary>
/// <remarks>
/// State: 8 bytes per parameter, 12 with AMSGrad. For selected elements the moments of the others stand still, and the bias
/// correction counts the steps of the whole parameter, as PyTorch's <c>SparseAdam</c> does.
/// </remarks>
public class FusedAdam : FusedOptimizer, IBetas
{
    private readonly FusedAdamOptions defaults;

    /// <summary>Makes an optimizer over one group of parameters.</summary>
    /// <param name="parameters">The parameters. They stay the module's own.</param>
    /// <param name="learningRate">The learning rate, at least 0. Default: 1e-3.</param>
    /// <param name="beta1">How much of the gradient's running mean is kept, in [0, 1). Default: 0.9.</param>
    /// <param name="beta2">How much of the squared gradient's running mean is kept, in [0, 1). Default: 0.999.</param>
    /// <param name="epsilon">Added to the denominator, above 0. Default: 1e-8.</param>
    /// <param name="weightDecay">L2 penalty, at least 0. Default: 0.</param>
    /// <param name="amsGrad">Divides by the largest squared-gradient mean so far. Default: false.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public FusedAdam(
        IEnumerable<Parameter> parameters, double learningRate = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double epsilon = 1e-8, double weightDecay = 0, bool amsGrad = false)
        : this([new ParamGroup<FusedAdamOptions>(parameters)], learningRate, beta1, beta2, epsilon, weightDecay, amsGrad)
    {
    }

    /// <summary>Makes an optimizer over several groups of parameters.</summary>
    /// <param name="groups">The groups, each with options of its own or none.</param>
    /// <param name="learningRate">The learning rate of groups that name none, at least 0. Default: 1e-3.</param>
    /// <param name="beta1">Likewise, in [0, 1). Default: 0.9.</param>
    /// <param name="beta2">Likewise, in [0, 1). Default: 0.999.</param>
    /// <param name="epsilon">Likewise, above 0. Default: 1e-8.</param>
    /// <param name="weightDecay">Likewise, at least 0. Default: 0.</param>
    /// <param name="amsGrad">Likewise. Default: false.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public FusedAdam(
        IEnumerable<ParamGroup<FusedAdamOptions>> groups, double learningRate = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double epsilon = 1e-8, double weightDecay = 0, bool amsGrad = false)
        : this(groups, learningRate, beta1, beta2, epsilon, weightDecay, amsGrad, decoupled: false)
    {
    }

    private protected FusedAdam(
        IEnumerable<ParamGroup<FusedAdamOptions>> groups, double learningRate, double beta1, double beta2, double epsilon, double weightDecay, bool amsGrad, bool decoupled)
    {
        ArgumentNullException.ThrowIfNull(groups);
        defaults = new FusedAdamOptions
        {
            LearningRate = learningRate,
            Beta1 = beta1,
            Beta2 = beta2,
            Epsilon = epsilon,
            WeightDecay = weightDecay,
            DecoupledWeightDecay = decoupled,
            AmsGrad = amsGrad,
        };
        _defaults = defaults;
        foreach (var group in groups) add_param_group(group);
    }

    /// <summary>The betas of all groups, for schedulers that change them.</summary>
    public (double, double) Betas
    {
        get => (defaults.Beta1!.Value, defaults.Beta2!.Value);
        set
        {
            (defaults.Beta1, defaults.Beta2) = value;
            foreach (var options in _parameter_groups.Select(g => (FusedAdamOptions)g.Options)) (options.Beta1, options.Beta2) = value;
        }
    }

    private protected override void CompleteOptions(ParamGroup group)
    {
        var options = group.Options as FusedAdamOptions ?? (group.Options is null ? new FusedAdamOptions() : throw new ArgumentException(
            $"The options of a parameter group of Adam are FusedAdamOptions, not {group.Options.GetType().Name}.", nameof(group)));
        group.Options = options;
        options.LearningRate ??= defaults.LearningRate;
        options.Beta1 ??= defaults.Beta1;
        options.Beta2 ??= defaults.Beta2;
        options.Epsilon ??= defaults.Epsilon;
        options.WeightDecay ??= defaults.WeightDecay;
        options.DecoupledWeightDecay ??= defaults.DecoupledWeightDecay;
        options.AmsGrad ??= defaults.AmsGrad;
        OptionChecks.AtLeastZero(options.LearningRate!.Value, "learningRate");
        OptionChecks.InUnitInterval(options.Beta1!.Value, "beta1");
        OptionChecks.InUnitInterval(options.Beta2!.Value, "beta2");
        OptionChecks.Above0(options.Epsilon!.Value, "epsilon");
        OptionChecks.AtLeastZero(options.WeightDecay!.Value, "weightDecay");
    }

    private protected override ParamGroup ForSchedulers(ParamGroup group) => new Group { Parameters = group.Parameters, Options = group.Options };

    private protected override double[] OptionsOf(ParamGroup group)
    {
        var options = (FusedAdamOptions)group.Options;
        return
        [
            options.LearningRate!.Value, options.Beta1!.Value, options.Beta2!.Value, options.Epsilon!.Value, options.WeightDecay!.Value,
            options.DecoupledWeightDecay!.Value ? 1 : 0, options.AmsGrad!.Value ? 1 : 0,
        ];
    }

    private protected override void SetOptions(ParamGroup group, ReadOnlySpan<double> options)
    {
        var target = (FusedAdamOptions)group.Options;
        (target.LearningRate, target.Beta1, target.Beta2, target.Epsilon) = (options[0], options[1], options[2], options[3]);
        (target.WeightDecay, target.DecoupledWeightDecay, target.AmsGrad) = (options[4], options[5] != 0, options[6] != 0);
    }

    private protected override int MomentsOf(ParamGroup group) => ((FusedAdamOptions)group.Options).AmsGrad!.Value ? 3 : 2;

    private protected override void Compute(ParameterState state, int start, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update)
    {
        var kernel = new Kernel(state);
        var first = state.Moment(0).Slice(start, gradient.Length);
        var second = state.Moment(1).Slice(start, gradient.Length);
        var largest = kernel.AmsGrad ? state.Moment(2).Slice(start, gradient.Length) : second;
        var i = 0;
        if (Vector.IsHardwareAccelerated)
        {
            ref var g = ref MemoryMarshal.GetReference(gradient);
            ref var w = ref MemoryMarshal.GetReference(weights);
            ref var m = ref MemoryMarshal.GetReference(first);
            ref var v = ref MemoryMarshal.GetReference(second);
            ref var l = ref MemoryMarshal.GetReference(largest);
            ref var u = ref MemoryMarshal.GetReference(update);
            for (; i <= gradient.Length - Vector<float>.Count; i += Vector<float>.Count)
            {
                var (mean, square) = (Vector.LoadUnsafe(ref m, (nuint)i), Vector.LoadUnsafe(ref v, (nuint)i));
                var top = kernel.AmsGrad ? Vector.LoadUnsafe(ref l, (nuint)i) : default;
                kernel.Update(Vector.LoadUnsafe(ref g, (nuint)i), Vector.LoadUnsafe(ref w, (nuint)i), ref mean, ref square, ref top).StoreUnsafe(ref u, (nuint)i);
                mean.StoreUnsafe(ref m, (nuint)i);
                square.StoreUnsafe(ref v, (nuint)i);
                if (kernel.AmsGrad) top.StoreUnsafe(ref l, (nuint)i);
            }
        }

        float none = 0;
        for (; i < gradient.Length; i++)
        {
            update[i] = kernel.Update(gradient[i], weights[i], ref first[i], ref second[i], ref kernel.AmsGrad ? ref largest[i] : ref none);
        }
    }

    private protected override void ComputeAt(
        ParameterState state, ReadOnlySpan<int> elements, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update)
    {
        var kernel = new Kernel(state);
        var first = state.Moment(0);
        var second = state.Moment(1);
        var largest = kernel.AmsGrad ? state.Moment(2) : second;
        float none = 0;
        for (var j = 0; j < elements.Length; j++)
        {
            var i = elements[j];
            update[j] = kernel.Update(gradient[j], weights[j], ref first[i], ref second[i], ref kernel.AmsGrad ? ref largest[i] : ref none);
        }
    }

    private sealed class Group : ParamGroup, IBetas
    {
        public (double, double) Betas
        {
            get => (((FusedAdamOptions)Options).Beta1!.Value, ((FusedAdamOptions)Options).Beta2!.Value);
            set => (((FusedAdamOptions)Options).Beta1, ((FusedAdamOptions)Options).Beta2) = value;
        }
    }

    /// <summary>One element's step; the same operations in the same order for one element and for a vector of them.</summary>
    private readonly struct Kernel
    {
        private readonly float beta1, oneMinusBeta1, beta2, oneMinusBeta2, epsilon, stepSize, rootOfCorrection2, penalty, decay;

        public Kernel(ParameterState state)
        {
            var options = (FusedAdamOptions)state.Group.Options;
            var learningRate = options.LearningRate!.Value;
            beta1 = (float)options.Beta1!.Value;
            oneMinusBeta1 = (float)(1 - options.Beta1.Value);
            beta2 = (float)options.Beta2!.Value;
            oneMinusBeta2 = (float)(1 - options.Beta2.Value);
            epsilon = (float)options.Epsilon!.Value;
            stepSize = (float)(learningRate / (1 - Math.Pow(options.Beta1.Value, state.Step)));
            rootOfCorrection2 = (float)Math.Sqrt(1 - Math.Pow(options.Beta2.Value, state.Step));
            var decoupled = options.DecoupledWeightDecay!.Value;
            penalty = decoupled ? 0 : (float)options.WeightDecay!.Value;
            decay = decoupled ? (float)(learningRate * options.WeightDecay!.Value) : 0;
            AmsGrad = options.AmsGrad!.Value;
        }

        public bool AmsGrad { get; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public float Update(float gradient, float weight, ref float mean, ref float square, ref float largest)
        {
            var g = gradient + (penalty * weight);
            mean = (beta1 * mean) + (oneMinusBeta1 * g);
            square = (beta2 * square) + (oneMinusBeta2 * (g * g));
            if (AmsGrad) largest = Math.Max(largest, square);
            var denominator = (MathF.Sqrt(AmsGrad ? largest : square) / rootOfCorrection2) + epsilon;
            return (-stepSize * (mean / denominator)) - (decay * weight);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector<float> Update(Vector<float> gradient, Vector<float> weight, ref Vector<float> mean, ref Vector<float> square, ref Vector<float> largest)
        {
            var g = gradient + (penalty * weight);
            mean = (beta1 * mean) + (oneMinusBeta1 * g);
            square = (beta2 * square) + (oneMinusBeta2 * (g * g));
            if (AmsGrad) largest = Vector.Max(largest, square);
            var denominator = (Vector.SquareRoot(AmsGrad ? largest : square) / new Vector<float>(rootOfCorrection2)) + new Vector<float>(epsilon);
            return (-stepSize * (mean / denominator)) - (decay * weight);
        }
    }
}
