using ContinuousDL.Compression;
using ContinuousDL.Optimization;
using ContinuousDL.Residuals;
using ContinuousDL.Vectors;
using TorchSharp;

namespace ContinuousDL.Benchmarks.Compression;

/// <summary>
/// This library's top-k with error feedback: accumulate, select exactly, release. Block by block where the compressor can, as
/// <see cref="Deployment.UpdateCompression"/> does it.
/// </summary>
internal sealed class ErrorFeedbackTopK : IDisposable
{
    private const int BlockSize = FusedOptimizer.BlockSize;

    private readonly VectorLayout layout;
    private readonly IResidualMemory memory;
    private readonly TopKCompressor compressor;

    /// <param name="layout">The tensors of the model.</param>
    /// <param name="density">The share that is sent.</param>
    /// <param name="scope">Of the whole model or of each tensor.</param>
    /// <param name="memory">The residual memory, which is taken over. Default: error feedback.</param>
    public ErrorFeedbackTopK(VectorLayout layout, double density, CompressionScope scope, IResidualMemory? memory = null)
    {
        this.layout = layout;
        this.memory = memory ??= new ErrorFeedbackMemory();
        compressor = new TopKCompressor(density, scope);
        memory.Attach(layout);
    }

    /// <summary>What the last step sent; valid until the next.</summary>
    public CompressedGradient Sent { get; } = new();

    /// <summary>Compresses one gradient, <c>[n]</c>, which stays the caller's.</summary>
    public void Step(torch.Tensor gradient) => Step(HeavyTailedGradients.Elements(gradient));

    /// <summary>Compresses one gradient.</summary>
    public void Step(ReadOnlySpan<float> values)
    {
        var blockwise = (IBlockwiseCompressor)compressor;
        if (blockwise.TryBegin(layout))
        {
            for (var start = 0; start < values.Length; start += BlockSize)
            {
                var owed = memory.Accumulate(values.Slice(start, Math.Min(BlockSize, values.Length - start)), start);
                blockwise.Scan(owed, start);
            }

            blockwise.Finish(memory.Accumulated, Sent);
        }
        else
        {
            memory.Accumulate(values, 0);
            compressor.Compress(memory.Accumulated, layout, Sent);
        }

        memory.Release(Sent);
    }

    /// <inheritdoc />
    public void Dispose() => memory.Dispose();
}
