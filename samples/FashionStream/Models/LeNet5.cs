using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace ContinuousDL.Samples.FashionStream.Models;

/// <summary>
/// LeNet-5 (LeCun et al. 1998) as it is built today, with rectifiers and max pooling: two convolutions and three linear
/// layers, 61,706 parameters for 28 × 28 × 1 images and ten classes. Takes <c>[N, channels, height, width]</c>, float32,
/// and gives logits <c>[N, classes]</c>.
/// </summary>
internal sealed class LeNet5 : Module<Tensor, Tensor>
{
    /// <summary>The smallest height and width that leave something after both convolutions and poolings.</summary>
    public const int SmallestSide = 12;

    /// <summary>The side that the original is made for; smaller images are padded towards it.</summary>
    private const int OriginalSide = 32;

    /// <summary>
    /// TorchSharp has one random generator for all threads: who seeds it for a model must have drawn its weights before anyone
    /// else draws.
    /// </summary>
    private static readonly Lock Drawing = new();

    private readonly (int Channels, int Height, int Width, int Classes) shape;
    private readonly Module<Tensor, Tensor> features;
    private readonly Module<Tensor, Tensor> classifier;

    /// <param name="channels">Channels of an image.</param>
    /// <param name="height">Rows of an image, at least <see cref="SmallestSide"/>.</param>
    /// <param name="width">Columns of an image, at least <see cref="SmallestSide"/>.</param>
    /// <param name="classes">The number of outputs.</param>
    /// <exception cref="ArgumentOutOfRangeException">The images are too small.</exception>
    public LeNet5(int channels, int height, int width, int classes = 10)
        : base(nameof(LeNet5))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(height, SmallestSide);
        ArgumentOutOfRangeException.ThrowIfLessThan(width, SmallestSide);
        shape = (channels, height, width, classes);

        var padding = Math.Min(height, width) < OriginalSide ? 2 : 0;
        lock (Drawing)
        {
            features = Sequential(
                Conv2d(channels, 6, kernel_size: 5, padding: padding),
                ReLU(),
                MaxPool2d(2),
                Conv2d(6, 16, kernel_size: 5),
                ReLU(),
                MaxPool2d(2),
                Flatten());
            classifier = Sequential(
                Linear(16 * SideAfterFeatures(height, padding) * SideAfterFeatures(width, padding), 120),
                ReLU(),
                Linear(120, 84),
                ReLU(),
                Linear(84, classes));
        }

        RegisterComponents();
    }

    /// <summary>A new model whose initial weights depend on the seed alone. The caller owns it.</summary>
    /// <param name="seed">The seed. TorchSharp's generator goes on from it.</param>
    /// <param name="channels">Channels of an image.</param>
    /// <param name="height">Rows of an image, at least <see cref="SmallestSide"/>.</param>
    /// <param name="width">Columns of an image, at least <see cref="SmallestSide"/>.</param>
    /// <param name="classes">The number of outputs.</param>
    /// <exception cref="ArgumentOutOfRangeException">The images are too small.</exception>
    public static LeNet5 CreateSeeded(int seed, int channels, int height, int width, int classes)
    {
        lock (Drawing)
        {
            random.manual_seed(seed);
            return new LeNet5(channels, height, width, classes);
        }
    }

    /// <summary>A new model of the same architecture, with weights of its own. The caller owns it.</summary>
    public LeNet5 CreateAnother() => new(shape.Channels, shape.Height, shape.Width, shape.Classes);

    /// <summary>A new model with the same weights. The caller owns it.</summary>
    public LeNet5 Copy()
    {
        var copy = CreateAnother();
        using (no_grad())
        {
            foreach (var (own, other) in parameters().Zip(copy.parameters())) other.copy_(own);
        }

        return copy;
    }

    /// <inheritdoc />
    public override Tensor forward(Tensor input)
    {
        using var extracted = features.forward(input);
        return classifier.forward(extracted);
    }

    /// <inheritdoc />
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            features.Dispose();
            classifier.Dispose();
        }

        base.Dispose(disposing);
    }

    private static int SideAfterFeatures(int side, int padding) => ((((side + (2 * padding) - 4) / 2) - 4) / 2);
}
