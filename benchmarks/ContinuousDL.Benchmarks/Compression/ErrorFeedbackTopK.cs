using ContinuousDL.Compression;
using ContinuousDL.Residuals;
using TorchSharp;

namespace ContinuousDL.Benchmarks.Compression;

/// <summary>This library's top-k with error feedback: accumulate, select exactly, release.</summary>
internal sealed class ErrorFeedbackTopK : IDisposable
{
    private readonly VectorLayout layout;
    private readonly ErrorFeedbackMemory memory = new();
    private readonly TopKCompressor compressor;

    /// <param name="layout">The tensors of the model.</param>
    /// <param name="density">The share that is sent.</param>
    /// <param name="scope">Of the whole model or of each tensor.</param>
    public ErrorFeedbackTopK(VectorLayout layout, double density, CompressionScope scope)
    {
        this.layout = layout;
        compressor = new TopKCompressor(density, scope);
        memory.Attach(layout);
    }

    /// <summary>What the last step sent; valid until the next.</summary>
    public CompressedGradient Sent { get; } = new();

    /// <summary>Compresses one gradient, <c>[n]</c>, which stays the caller's.</summary>
    public void Step(torch.Tensor gradient)
    {
        memory.Accumulate(HeavyTailedGradients.Elements(gradient), 0);
        compressor.Compress(memory.Accumulated, layout, Sent);
        memory.Release(Sent);
    }

    /// <inheritdoc />
    public void Dispose() => memory.Dispose();
}
