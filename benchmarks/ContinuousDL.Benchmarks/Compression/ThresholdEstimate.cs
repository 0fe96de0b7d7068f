using ContinuousDL.Memory;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Benchmarks.Compression;

/// <summary>
/// The selection of Deep Gradient Compression (Lin et al. 2018, section 3) as GRACE (Xu et al. 2021) does it: a threshold from
/// the top-k of a sample of 1 %, moved by a factor of 1.3 or 0.7, at most ten times, until roughly k coordinates are above it.
/// </summary>
/// <remarks>Not exact: from 0.7 to 1.3 times k coordinates are sent, and not the same ones for equal input.</remarks>
internal sealed class ThresholdEstimate : IDisposable
{
    private const double SampleShare = 0.01;
    private const int MostAdjustments = 10;
    private const double TooMany = 1.3;
    private const double TooFew = 0.7;

    private readonly int n;
    private readonly double density;
    private Tensor residual;

    /// <param name="n">The number of coordinates.</param>
    /// <param name="density">The share that is sent, roughly.</param>
    public ThresholdEstimate(int n, double density)
    {
        (this.n, this.density) = (n, density);
        residual = zeros(n);
    }

    /// <summary>Compresses one gradient, <c>[n]</c>, which stays the caller's.</summary>
    /// <returns>What is sent, <c>[n]</c>, zero where nothing is. The caller's.</returns>
    public Tensor Step(Tensor gradient)
    {
        using var scope = NewDisposeScope();
        using Scalar zero = 0;
        var accumulated = residual.Plus(gradient);
        var magnitudes = accumulated.abs();
        using Scalar threshold = Threshold(magnitudes);
        var indices = magnitudes.ge(threshold).nonzero().flatten();
        var rest = accumulated.clone();
        _ = rest.index_fill_(0, indices, zero);
        var sent = accumulated.sub(rest);
        residual.Dispose();
        residual = rest.DetachFromDisposeScope();
        return sent.MoveToOuterDisposeScope();
    }

    /// <inheritdoc />
    public void Dispose() => residual.Dispose();

    private float Threshold(Tensor magnitudes)
    {
        using var scope = NewDisposeScope();
        var size = Math.Max(1, (int)(n * SampleShare));
        var sample = magnitudes.index_select(0, randint(0, n, size, dtype: ScalarType.Int64));
        var (largest, _) = sample.topk(Math.Max(1, (int)(size * density)), sorted: false);
        var threshold = largest.min().item<float>();
        for (var i = 0; i < MostAdjustments; i++)
        {
            using Scalar lowest = threshold;
            var selected = magnitudes.ge(lowest).sum().item<long>();
            if (selected > TooMany * n * density) threshold *= (float)TooMany;
            else if (selected < TooFew * n * density) threshold *= (float)TooFew;
            else break;
        }

        return threshold;
    }
}
