using ContinuousDL.Benchmarks.Models;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Tests.Benchmarks;

/// <summary>The benchmarks' models are the standard architectures: they have torchvision's parameter counts, and a forward pass fits.</summary>
public class BenchmarkModelTests
{
    private static readonly Dictionary<string, Func<int, Module<Tensor, Tensor>>> Architectures = new()
    {
        ["LeNet-5"] = LeNet5.Create,
        ["MobileNetV2"] = MobileNetV2.Create,
        ["ResNet-18"] = ResNet18.Create,
        ["DenseNet-121"] = DenseNet121.Create,
    };

    [TestCase("LeNet-5", 10, 61_706)]
    [TestCase("MobileNetV2", 1000, 3_504_872)]
    [TestCase("MobileNetV2", 10, 2_236_682)]
    [TestCase("ResNet-18", 1000, 11_689_512)]
    [TestCase("ResNet-18", 10, 11_181_642)]
    [TestCase("DenseNet-121", 1000, 7_978_856)]
    [TestCase("DenseNet-121", 10, 6_964_106)]
    public void Create_gives_a_model_with_the_known_number_of_parameters(string name, int classes, int parameters)
    {
        using var model = Architectures[name](classes);
        BenchmarkModel.CountParameters(model).Should().Be(parameters);
    }

    [TestCase(1000, 25_557_032)]
    [TestCase(10, 23_528_522)]
    public void The_layers_of_ResNet50_have_the_known_number_of_parameters(int classes, int parameters)
    {
        LayerLengths.ResNet50(classes).Sum().Should().Be(parameters);
        LayerLengths.ResNet50(classes).Should().HaveCount(161);
    }

    [TestCaseSource(typeof(BenchmarkModel), nameof(BenchmarkModel.All))]
    public void A_model_takes_its_images_and_passes_gradients_back(BenchmarkModel kind)
    {
        using var scope = NewDisposeScope();
        var model = kind.Create();
        var output = model.call(randn(2, kind.Channels, kind.Size, kind.Size));
        output.shape.Should().Equal(2, BenchmarkModel.Classes);
        output.sum().backward();
        model.parameters().All(p => p.grad is not null).Should().BeTrue();
    }
}
