using ContinuousDL.Memory;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Compression;

/// <summary>
/// Top-k with error feedback as it is usually written with tensor operations: add the residual, <c>topk</c> of the magnitudes,
/// clone, zero the selected ones, subtract.
/// </summary>
internal sealed class UsualRecipe : IDisposable
{
    private readonly long k;
    private Tensor residual;

    /// <param name="n">The number of coordinates.</param>
    /// <param name="density">The share that is sent.</param>
    public UsualRecipe(int n, double density)
    {
        k = Math.Max(1, (long)(n * (decimal)density));
        residual = zeros(n);
    }

    /// <summary>Compresses one gradient, <c>[n]</c>, which stays the caller's.</summary>
    /// <returns>What is sent, <c>[n]</c>, zero where nothing is. The caller's.</returns>
    public Tensor Step(Tensor gradient)
    {
        using var scope = NewDisposeScope();
        using Scalar zero = 0;
        var accumulated = residual.Plus(gradient);
        var (_, indices) = accumulated.abs().topk((int)k, sorted: false);
        var rest = accumulated.clone();
        _ = rest.index_fill_(0, indices, zero);
        var sent = accumulated.sub(rest);
        residual.Dispose();
        residual = rest.DetachFromDisposeScope();
        return sent.MoveToOuterDisposeScope();
    }

    /// <inheritdoc />
    public void Dispose() => residual.Dispose();
}
