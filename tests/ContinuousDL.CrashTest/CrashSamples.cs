using static TorchSharp.torch;

namespace ContinuousDL.CrashTest;

/// <summary>Samples that can be told from their index alone, so that another process can see whether they are all there, and right.</summary>
public static class CrashSamples
{
    /// <summary>The numbers of an input.</summary>
    public const int Features = 8;

    /// <summary>The classes of the targets.</summary>
    public const int Classes = 4;

    /// <summary>Makes the samples [first, first + count).</summary>
    /// <returns>Inputs <c>[count, 8]</c>, float32, and targets <c>[count]</c>, int64; owned by the caller.</returns>
    public static (Tensor Inputs, Tensor Targets) Make(long first, int count)
    {
        var inputs = new float[count * Features];
        var targets = new long[count];
        for (var row = 0; row < count; row++)
        {
            var random = new Random((int)(first + row));
            for (var f = 0; f < Features; f++) inputs[(row * Features) + f] = (float)(random.NextDouble() - 0.5);
            targets[row] = random.Next(Classes);
        }

        return (tensor(inputs, [count, Features]), tensor(targets));
    }
}
