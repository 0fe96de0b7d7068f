using ContinuousDL.State;
using TorchSharp.Modules;

namespace ContinuousDL.Optimization;

/// <summary>
/// An optimizer that hands over the update it wants instead of applying it, so that the update can be compressed first.
/// </summary>
/// <remarks>
/// A step is <see cref="BeginStep"/>, then either <see cref="ApplyUpdate"/> (everything, in place), or
/// <see cref="ComputeUpdate"/> for each part of each parameter that has a gradient, or <see cref="ComputeUpdateAt"/> for the
/// selected elements of each. Weights, gradients and updates are float32 here, whatever the parameter's dtype. Its state is moments,
/// step counts, and the options of the parameter groups, which schedulers change as they go. Not thread-safe.
/// </remarks>
public interface IUpdateRule : IDisposable, IStateful
{
    /// <summary>
    /// The parameters that are updated, in a fixed order, and those that were added after the rule was given to a trainer behind
    /// them: the trainer then refuses to step. They stay the module's own.
    /// </summary>
    IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>
    /// Whether the gradients are read from <c>Parameter.grad</c> at <see cref="BeginStep"/>, rather than from what is passed in.
    /// Who passes in another gradient than the parameter's own must then write it there first.
    /// </summary>
    bool ReadsParameterGradients { get; }

    /// <summary>Starts a step. Parameters without a gradient in this step are left alone, their moments too.</summary>
    /// <param name="hasGradient">For each of <see cref="Parameters"/>, whether it has a gradient.</param>
    void BeginStep(ReadOnlySpan<bool> hasGradient);

    /// <summary>Applies the whole update to the parameters, in place: what an ordinary optimizer's step does.</summary>
    void ApplyUpdate();

    /// <summary>Computes the update of consecutive elements of one parameter; moments move on for these elements.</summary>
    /// <param name="parameter">The index of the parameter.</param>
    /// <param name="start">The first element, in row-major order.</param>
    /// <param name="gradient">The gradient of the elements.</param>
    /// <param name="weights">Their values, as many.</param>
    /// <param name="update">Receives what is to be added to the weights; as many. May not overlap the others.</param>
    void ComputeUpdate(int parameter, int start, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update);

    /// <summary>Computes the update of selected elements of one parameter; moments move on for these elements only, so that the cost follows their number.</summary>
    /// <param name="parameter">The index of the parameter.</param>
    /// <param name="elements">The elements, ascending.</param>
    /// <param name="gradient">The gradient of each.</param>
    /// <param name="weights">The value of each.</param>
    /// <param name="update">Receives what is to be added to each.</param>
    void ComputeUpdateAt(int parameter, ReadOnlySpan<int> elements, ReadOnlySpan<float> gradient, ReadOnlySpan<float> weights, Span<float> update);

    /// <summary>Forgets moments and step counts, as if no step had been taken. Learning rates and other options stay.</summary>
    void Reset();
}
