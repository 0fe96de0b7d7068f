using System.Runtime.InteropServices;
using ContinuousDL.Memory;
using ContinuousDL.Vectors;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Compression;

/// <summary>
/// Gradients with the tails that real ones have, in turn: each tensor has a scale of its own, each coordinate another one that
/// lasts (log-normal both), and only sign and size within that change from step to step.
/// </summary>
internal sealed class HeavyTailedGradients : IDisposable
{
    private const double SpreadOfTensors = 1.5;
    private const double SpreadOfCoordinates = 1;
    private const double UsualSize = 1e-3;

    private readonly Tensor[] gradients;
    private int next;

    /// <summary>Draws them, from TorchSharp's generator.</summary>
    /// <param name="layout">The tensors that a gradient is made up of.</param>
    /// <param name="count">How many different ones come in turn, so that no step finds its gradient in the cache by chance.</param>
    public HeavyTailedGradients(VectorLayout layout, int count = 3)
    {
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        using Scalar ofCoordinates = SpreadOfCoordinates, ofTensors = SpreadOfTensors, size = UsualSize;
        var scales = randn(layout.Length).mul_(ofCoordinates);
        for (var t = 0; t < layout.TensorCount; t++)
        {
            var length = layout.Offsets[t + 1] - layout.Offsets[t];
            _ = scales.narrow(0, layout.Offsets[t], length).AddInPlace(randn(1).mul_(ofTensors));
        }

        _ = scales.exp_().mul_(size);
        gradients = new Tensor[count];
        for (var i = 0; i < count; i++) gradients[i] = randn(layout.Length).mul_(scales).DetachFromDisposeScope();
    }

    /// <summary>The next gradient, <c>[n]</c>. It stays this object's.</summary>
    public Tensor Next() => gradients[next = (next + 1) % gradients.Length];

    /// <summary>The elements of a float32 tensor on the CPU, valid as long as it lives.</summary>
    public static Span<float> Elements(Tensor tensor) => MemoryMarshal.Cast<byte, float>(tensor.bytes);

    /// <inheritdoc />
    public void Dispose()
    {
        foreach (var gradient in gradients) gradient.Dispose();
    }
}
