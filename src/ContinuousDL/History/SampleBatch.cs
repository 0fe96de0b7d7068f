using static TorchSharp.torch;

namespace ContinuousDL.History;

/// <summary>A batch of samples. It owns its two tensors: disposing the batch disposes them.</summary>
/// <param name="inputs">The inputs, <c>[N, ...]</c>. The batch takes it over.</param>
/// <param name="targets">The targets, <c>[N, ...]</c>. The batch takes it over.</param>
public sealed class SampleBatch(Tensor inputs, Tensor targets) : IDisposable
{
    /// <summary>The inputs, <c>[N, ...]</c>. Owned by the batch.</summary>
    public Tensor Inputs { get; } = inputs ?? throw new ArgumentNullException(nameof(inputs));

    /// <summary>The targets, <c>[N, ...]</c>. Owned by the batch.</summary>
    public Tensor Targets { get; } = targets ?? throw new ArgumentNullException(nameof(targets));

    /// <summary>The number of samples, N.</summary>
    public int Count { get; } = checked((int)inputs.shape[0]);

    /// <inheritdoc />
    public void Dispose()
    {
        Inputs.Dispose();
        Targets.Dispose();
    }
}
