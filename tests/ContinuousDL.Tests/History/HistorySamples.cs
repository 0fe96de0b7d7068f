using ContinuousDL.History;
using static TorchSharp.torch;

namespace ContinuousDL.Tests.History;

/// <summary>Samples for histories, and their bytes.</summary>
internal static class HistorySamples
{
    /// <summary>Appends samples whose input is their number and whose target is minus their number.</summary>
    public static long AppendNumbers(ISampleHistory history, int first, int count)
    {
        using var inputs = arange(first, first + count, dtype: float32);
        using var targets = arange(-first, -first - count, -1, dtype: int64);
        return history.Append(inputs, targets);
    }

    public static Tensor RandomBits(Random random, long[] shape, ScalarType dtype)
    {
        var tensor = zeros(shape, dtype);
        var bytes = tensor.bytes;
        random.NextBytes(bytes);
        if (dtype == ScalarType.Bool)
        {
            foreach (ref var value in bytes) value &= 1;
        }

        return tensor;
    }

    public static byte[] Bytes(Tensor tensor)
    {
        using var contiguous = tensor.contiguous();
        return contiguous.bytes.ToArray();
    }

    public static long[] Indices(long first, long end) => [.. Enumerable.Range((int)first, (int)(end - first)).Select(i => (long)i)];
}
