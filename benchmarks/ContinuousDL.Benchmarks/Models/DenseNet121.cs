using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Benchmarks.Models;

/// <summary>DenseNet-121 (Huang et al. 2017) as torchvision has it: 7,978,856 parameters for 1,000 classes, 6,964,106 for 10.</summary>
internal static class DenseNet121
{
    private const int Growth = 32;
    private const int BottleneckFactor = 4;

    private static readonly int[] LayersPerBlock = [6, 12, 24, 16];

    /// <summary>Makes the model, for colour images. It is the caller's.</summary>
    /// <param name="classes">The number of outputs.</param>
    public static Module<Tensor, Tensor> Create(int classes)
    {
        var layers = new List<Module<Tensor, Tensor>>
        {
            Conv2d(3, 64, 7, stride: 2, padding: 3, bias: false), BatchNorm2d(64), ReLU(inplace: true), MaxPool2d(3, stride: 2, padding: 1),
        };
        var channels = 64;
        for (var block = 0; block < LayersPerBlock.Length; block++)
        {
            for (var i = 0; i < LayersPerBlock[block]; i++, channels += Growth) layers.Add(DenseLayer(channels));
            layers.AddRange([BatchNorm2d(channels), ReLU(inplace: true)]);
            if (block == LayersPerBlock.Length - 1) break;
            layers.AddRange([Conv2d(channels, channels / 2, 1, bias: false), AvgPool2d(2, stride: 2)]);
            channels /= 2;
        }

        layers.AddRange([AdaptiveAvgPool2d(1), Flatten(), Linear(channels, classes)]);
        return Sequential(layers);
    }

    private static Concatenating DenseLayer(int input) => new(Sequential(
        BatchNorm2d(input),
        ReLU(inplace: true),
        Conv2d(input, BottleneckFactor * Growth, 1, bias: false),
        BatchNorm2d(BottleneckFactor * Growth),
        ReLU(inplace: true),
        Conv2d(BottleneckFactor * Growth, Growth, 3, padding: 1, bias: false)));
}
