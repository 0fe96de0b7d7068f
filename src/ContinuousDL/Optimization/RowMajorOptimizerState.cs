using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.optim;
using Tensor = TorchSharp.torch.Tensor;

namespace ContinuousDL.Optimization;

/// <summary>
/// Lets a TorchSharp optimizer have its state in row-major order while it is saved or loaded, which TorchSharp demands; then gives
/// every tensor of it the strides of its parameter again, as the optimizer makes them, with the values that it has by then.
/// </summary>
/// <remarks>
/// Strides don't change a value, but libtorch computes rows that lie in order with other instructions than elements that don't, so that
/// a state in another order would go on with other last bits.
/// </remarks>
internal sealed class RowMajorOptimizerState : IDisposable
{
    private readonly (OptimizerState State, Parameter Parameter)[] states;

    /// <summary>Puts the state in row-major order.</summary>
    /// <param name="optimizer">The optimizer. Its state is not to be used by anything but saving and loading until this is disposed.</param>
    public RowMajorOptimizerState(OptimizerHelper optimizer)
    {
        using var guard = no_grad();
        states = [.. optimizer.state_dict().State.Zip(optimizer.parameters())];
        foreach (var (state, _) in states) Replace(state, static tensor => tensor.is_contiguous() ? null : tensor.contiguous());
    }

    /// <summary>Gives the state the strides of the parameters.</summary>
    public void Dispose()
    {
        using var guard = no_grad();
        foreach (var (state, parameter) in states) Replace(state, tensor => LikeParameter(tensor, parameter));
    }

    /// <summary>A copy with the strides that a tensor made like the parameter has; null where they are the same, or the tensor is of another shape.</summary>
    private static Tensor? LikeParameter(Tensor tensor, Parameter parameter)
    {
        if (parameter.is_contiguous() || !tensor.shape.SequenceEqual(parameter.shape)) return null;
        var like = empty_like(parameter, dtype: tensor.dtype, device: tensor.device);
        if (!like.stride().SequenceEqual(tensor.stride())) return like.copy_(tensor);
        like.Dispose();
        return null;
    }

    /// <summary>Replaces tensors of a state, which TorchSharp's optimizers keep in public fields, each of one class of its own.</summary>
    [UnconditionalSuppressMessage("Trimming", "IL2075", Justification = "The fields are those that the optimizer computes with and saves; a field that is trimmed has nothing to be replaced.")]
    private static void Replace(OptimizerState state, Func<Tensor, Tensor?> replacement)
    {
        foreach (var field in state.GetType().GetFields(BindingFlags.Public | BindingFlags.Instance))
        {
            if (field.FieldType != typeof(Tensor) || field.GetValue(state) is not Tensor { IsInvalid: false } tensor) continue;
            if (replacement(tensor) is not { } replaced) continue;
            field.SetValue(state, replaced.DetachFromDisposeScope());
            tensor.Dispose();
        }
    }
}
