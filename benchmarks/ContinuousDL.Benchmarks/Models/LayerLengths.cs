using ContinuousDL.Vectors;

namespace ContinuousDL.Benchmarks.Models;

/// <summary>How many elements the parameters of a model have, one after the other: all that compression sees of a model.</summary>
internal static class LayerLengths
{
    /// <summary>The models that compression is measured on: 61,706, 2.2 M, 11.2 M and 23.5 M parameters.</summary>
    public static IReadOnlyList<string> Names { get; } = ["LeNet-5", "MobileNetV2", "ResNet-18", "ResNet-50"];

    /// <summary>The layout of a model's parameters, for 10 classes.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    public static VectorLayout Of(string name)
    {
        if (name == "ResNet-50") return new VectorLayout([.. ResNet50(BenchmarkModel.Classes)]);
        using var model = BenchmarkModel.Named(name).Create();
        return new VectorLayout([.. model.parameters().Select(p => (int)p.numel())]);
    }

    /// <summary>
    /// ResNet-50 (He et al. 2016) as torchvision has it: 25,557,032 parameters for 1,000 classes, 23,528,522 for 10. Only its
    /// shapes: a step of it would tell nothing that one of ResNet-18 doesn't.
    /// </summary>
    /// <param name="classes">The number of outputs.</param>
    public static IEnumerable<int> ResNet50(int classes)
    {
        var lengths = new List<int>();
        Add(3, 64, 7);
        var channels = 64;
        foreach (var (width, blocks) in (ReadOnlySpan<(int, int)>)[(64, 3), (128, 4), (256, 6), (512, 3)])
        {
            for (var block = 0; block < blocks; block++)
            {
                Add(channels, width, 1);
                Add(width, width, 3);
                Add(width, 4 * width, 1);
                if (block == 0) Add(channels, 4 * width, 1);
                channels = 4 * width;
            }
        }

        lengths.AddRange([channels * classes, classes]);
        return lengths;

        // A convolution without bias, and the batch normalisation behind it: scale and shift.
        void Add(int input, int output, int kernel) => lengths.AddRange([input * output * kernel * kernel, output, output]);
    }
}
