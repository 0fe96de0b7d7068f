using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Benchmarks.Models;

/// <summary>ResNet-18 (He et al. 2016) as torchvision has it: 11,689,512 parameters for 1,000 classes, 11,181,642 for 10.</summary>
internal static class ResNet18
{
    /// <summary>Makes the model, for colour images. It is the caller's.</summary>
    /// <param name="classes">The number of outputs.</param>
    public static Module<Tensor, Tensor> Create(int classes)
    {
        var layers = new List<Module<Tensor, Tensor>>
        {
            Conv2d(3, 64, 7, stride: 2, padding: 3, bias: false), BatchNorm2d(64), ReLU(inplace: true), MaxPool2d(3, stride: 2, padding: 1),
        };
        var channels = 64;
        foreach (var output in (ReadOnlySpan<int>)[64, 128, 256, 512])
        {
            layers.Add(BasicBlock(channels, output, output == channels ? 1 : 2));
            layers.Add(BasicBlock(output, output, 1));
            channels = output;
        }

        layers.AddRange([AdaptiveAvgPool2d(1), Flatten(), Linear(channels, classes)]);
        return Sequential(layers);
    }

    private static Residual BasicBlock(int input, int output, int stride)
    {
        var branch = Sequential(
            Conv2d(input, output, 3, stride: stride, padding: 1, bias: false),
            BatchNorm2d(output),
            ReLU(inplace: true),
            Conv2d(output, output, 3, padding: 1, bias: false),
            BatchNorm2d(output));
        var shortcut = input == output ? null : Sequential(Conv2d(input, output, 1, stride: stride, bias: false), BatchNorm2d(output));
        return new Residual(branch, shortcut, rectify: true);
    }
}
