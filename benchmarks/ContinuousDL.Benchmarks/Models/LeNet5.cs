using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Benchmarks.Models;

/// <summary>LeNet-5 for grey 28×28 images, with ReLU and max pooling: 61,706 parameters for 10 classes.</summary>
internal static class LeNet5
{
    /// <summary>Makes the model. It is the caller's.</summary>
    /// <param name="classes">The number of outputs.</param>
    public static Module<Tensor, Tensor> Create(int classes) => Sequential(
        ("conv1", Conv2d(1, 6, 5, padding: 2)),
        ("relu1", ReLU()),
        ("pool1", MaxPool2d(2)),
        ("conv2", Conv2d(6, 16, 5)),
        ("relu2", ReLU()),
        ("pool2", MaxPool2d(2)),
        ("flatten", Flatten()),
        ("fc1", Linear(16 * 5 * 5, 120)),
        ("relu3", ReLU()),
        ("fc2", Linear(120, 84)),
        ("relu4", ReLU()),
        ("fc3", Linear(84, classes)));
}
