using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Benchmarks.Models;

/// <summary>MobileNetV2 (Sandler et al. 2018) as torchvision has it, width 1: 3,504,872 parameters for 1,000 classes, 2,236,682 for 10.</summary>
internal static class MobileNetV2
{
    private const int LastChannels = 1280;

    /// <summary>Expansion, output channels, repetitions, stride of the first: Table 2 of the paper.</summary>
    private static readonly (int Expansion, int Channels, int Count, int Stride)[] Stages =
    [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ];

    /// <summary>Makes the model, for colour images. It is the caller's.</summary>
    /// <param name="classes">The number of outputs.</param>
    public static Module<Tensor, Tensor> Create(int classes)
    {
        var layers = new List<Module<Tensor, Tensor>> { Convolution(3, 32, 3, stride: 2) };
        var channels = 32;
        foreach (var stage in Stages)
        {
            for (var i = 0; i < stage.Count; i++)
            {
                layers.Add(InvertedResidual(channels, stage.Channels, stage.Expansion, i == 0 ? stage.Stride : 1));
                channels = stage.Channels;
            }
        }

        layers.Add(Convolution(channels, LastChannels, 1));
        layers.AddRange([AdaptiveAvgPool2d(1), Flatten(), Dropout(0.2), Linear(LastChannels, classes)]);
        return Sequential(layers);
    }

    private static Module<Tensor, Tensor> InvertedResidual(int input, int output, int expansion, int stride)
    {
        var hidden = input * expansion;
        var layers = new List<Module<Tensor, Tensor>>();
        if (expansion != 1) layers.Add(Convolution(input, hidden, 1));
        layers.AddRange([Convolution(hidden, hidden, 3, stride, groups: hidden), Conv2d(hidden, output, 1, bias: false), BatchNorm2d(output)]);
        var branch = Sequential(layers);
        return stride == 1 && input == output ? new Residual(branch) : branch;
    }

    private static Module<Tensor, Tensor> Convolution(int input, int output, int kernel, int stride = 1, int groups = 1) => Sequential(
        Conv2d(input, output, kernel, stride: stride, padding: (kernel - 1) / 2, groups: groups, bias: false),
        BatchNorm2d(output),
        ReLU6(inplace: true));
}
