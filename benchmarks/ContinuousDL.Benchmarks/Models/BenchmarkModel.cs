using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Benchmarks.Models;

/// <summary>A model that steps are measured on: how to make it, and what it takes.</summary>
public sealed class BenchmarkModel
{
    /// <summary>The number of classes in all benchmarks.</summary>
    internal const int Classes = 10;

    private readonly Func<int, Module<Tensor, Tensor>> create;

    private BenchmarkModel(string name, int channels, int size, int parameters, Func<int, Module<Tensor, Tensor>> create)
    {
        (Name, Channels, Size, ParameterCount, this.create) = (name, channels, size, parameters, create);
    }

    /// <summary>The models, from small to large.</summary>
    public static IReadOnlyList<BenchmarkModel> All { get; } =
    [
        new("LeNet-5", 1, 28, 61_706, LeNet5.Create),
        new("MobileNetV2", 3, 32, 2_236_682, MobileNetV2.Create),
        new("DenseNet-121", 3, 32, 6_964_106, DenseNet121.Create),
        new("ResNet-18", 3, 32, 11_181_642, ResNet18.Create),
    ];

    /// <summary>What the model is called.</summary>
    public string Name { get; }

    /// <summary>The number of parameters with 10 classes.</summary>
    public int ParameterCount { get; }

    /// <summary>The channels of an image.</summary>
    internal int Channels { get; }

    /// <summary>Width and height of an image.</summary>
    internal int Size { get; }

    /// <summary>The model of a name.</summary>
    internal static BenchmarkModel Named(string name) => All.First(m => m.Name == name);

    /// <summary>Makes the model, for 10 classes. It is the caller's.</summary>
    /// <exception cref="InvalidOperationException">It doesn't have the parameters it should have.</exception>
    internal Module<Tensor, Tensor> Create()
    {
        var model = create(Classes);
        var count = CountParameters(model);
        if (count == ParameterCount) return model;
        model.Dispose();
        throw new InvalidOperationException($"{Name} has {count:N0} parameters instead of {ParameterCount:N0}.");
    }

    /// <summary>Counts the parameters of a module.</summary>
    internal static long CountParameters(Module module) => module.parameters().Sum(p => p.numel());

    /// <inheritdoc />
    public override string ToString() => Name;
}
