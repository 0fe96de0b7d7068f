using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace ContinuousDL.Tests;

/// <summary>Small models with what real ones have.</summary>
internal static class TestModels
{
    public const int Features = 6;
    public const int Classes = 3;

    /// <summary>Two linear layers.</summary>
    public static Sequential Mlp(ScalarType dtype = ScalarType.Float32) => nn.Sequential(
        ("hidden", nn.Linear(Features, 16, dtype: dtype)),
        ("relu", nn.ReLU()),
        ("output", nn.Linear(16, Classes, dtype: dtype)));

    /// <summary>Batch normalisation and dropout between linear layers.</summary>
    public static Sequential WithBatchNorm() => nn.Sequential(
        ("hidden", nn.Linear(Features, 16)),
        ("norm", nn.BatchNorm1d(16)),
        ("relu", nn.ReLU()),
        ("dropout", nn.Dropout(0.3)),
        ("output", nn.Linear(16, Classes)));

    /// <summary>Arrivals of a stream whose classes a linear model can nearly tell apart.</summary>
    public static (Tensor Inputs, Tensor Targets) Arrivals(int count, int seed, ScalarType dtype = ScalarType.Float32)
    {
        var random = new Random(seed);
        var inputs = new float[count * Features];
        var targets = new long[count];
        for (var i = 0; i < count; i++)
        {
            targets[i] = random.Next(Classes);
            for (var f = 0; f < Features; f++)
            {
                inputs[(i * Features) + f] = (float)((random.NextDouble() * 2) - 1 + (f % Classes == targets[i] ? 0.8 : 0));
            }
        }

        using var flat = tensor(inputs, [count, Features]);
        return (flat.to(dtype, copy: true), tensor(targets));
    }

    /// <summary>All values of a model's parameters and buffers as raw bytes.</summary>
    public static byte[] State(nn.Module model) =>
        [.. model.named_parameters().Select(p => (Tensor)p.parameter).Concat(model.named_buffers().Select(b => b.buffer)).SelectMany(Bytes)];

    /// <summary>A tensor's elements as raw bytes, in row-major order.</summary>
    public static byte[] Bytes(Tensor tensor)
    {
        // Each temporary has a name: a chained one could be finalized while native code still reads it.
        using var detached = tensor.detach();
        using var contiguous = detached.contiguous();
        using var copy = contiguous.clone();
        return copy.bytes.ToArray();
    }
}
