using static TorchSharp.torch;

namespace ContinuousDL.History;

/// <summary>A batch of samples. It owns its two tensors: disposing the batch disposes them.</summary>
public sealed class SampleBatch : IDisposable
{
    /// <summary>Makes a batch of its two tensors.</summary>
    /// <param name="inputs">The inputs, <c>[N, ...]</c>. The batch takes it over.</param>
    /// <param name="targets">The targets, <c>[N, ...]</c> or <c>[N]</c>. The batch takes it over.</param>
    /// <exception cref="ArgumentException">The tensors have no first dimension, or not the same one. They stay the caller's.</exception>
    public SampleBatch(Tensor inputs, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(targets);
        if (inputs.dim() == 0 || targets.dim() == 0 || inputs.size(0) != targets.size(0))
        {
            throw new ArgumentException(
                $"The inputs are [{string.Join(", ", inputs.shape)}], the targets [{string.Join(", ", targets.shape)}]; both have the same first dimension, N.",
                nameof(targets));
        }

        (Inputs, Targets, Count) = (inputs, targets, checked((int)inputs.size(0)));
    }

    /// <summary>The inputs, <c>[N, ...]</c>. Owned by the batch.</summary>
    public Tensor Inputs { get; }

    /// <summary>The targets, <c>[N, ...]</c> or <c>[N]</c>. Owned by the batch.</summary>
    public Tensor Targets { get; }

    /// <summary>The number of samples, N.</summary>
    public int Count { get; }

    /// <inheritdoc />
    public void Dispose()
    {
        Inputs.Dispose();
        Targets.Dispose();
    }
}
