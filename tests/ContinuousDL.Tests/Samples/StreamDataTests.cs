using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Models;
using TorchSharp;

namespace ContinuousDL.Tests.Samples;

public sealed class StreamDataTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void SetUp() => folder = new TemporaryFolder();

    [TearDown]
    public void TearDown() => folder.Dispose();

    [Test]
    public void Load_embedded_data_gives_2000_initial_10000_streamed_and_2000_test_samples()
    {
        var data = StreamData.Load(StreamData.EmbeddedDirectory, DataFormat.Mnist);

        (data.InitialCount, data.StreamCount, data.Test.Count).Should().Be((2_000, 10_000, 2_000));
        (data.Training.Channels, data.Training.Height, data.Training.Width, data.Classes).Should().Be((1, 28, 28, 10));
        data.Training.Labels.ToArray().Distinct().Should().HaveCount(10);
    }

    [Test]
    public void Embedded_data_takes_at_most_7_MB_and_comes_with_its_licence()
    {
        var files = new DirectoryInfo(StreamData.EmbeddedDirectory).GetFiles();
        files.Sum(file => file.Length).Should().BeLessThan(7_000_000);
        files.Select(file => file.Name).Should().Contain(["LICENSE", "README.md"]);
    }

    [Test]
    public void Load_with_limits_takes_the_first_samples()
    {
        var whole = StreamData.Load(StreamData.EmbeddedDirectory, DataFormat.Mnist);
        var part = StreamData.Load(StreamData.EmbeddedDirectory, DataFormat.Mnist, mostTraining: 60, mostTest: 7);

        (part.InitialCount, part.StreamCount, part.Test.Count).Should().Be((10, 50, 7));
        part.Training.Labels.ToArray().Should().Equal(whole.Training.Labels[..60].ToArray());
    }

    [Test]
    public void Load_scales_pixels_by_the_mean_and_deviation_of_the_initial_history()
    {
        var data = StreamData.Load(StreamData.EmbeddedDirectory, DataFormat.Mnist, mostTraining: 600, mostTest: 100);

        var (images, _) = data.Training.Batch(0, data.InitialCount);
        using (images)
        {
            using var mean = images.mean();
            using var deviation = images.std(unbiased: false);
            mean.item<float>().Should().BeApproximately(0, 1e-4f);
            deviation.item<float>().Should().BeApproximately(1, 1e-4f);
        }
    }

    [Test]
    public void Load_labels_above_9_ask_for_more_classes()
    {
        WriteMnist(trainingLabels: [0, 1, 2, 3, 4, 25], testLabels: [1]);
        StreamData.Load(folder.Path, DataFormat.Mnist).Classes.Should().Be(26);
    }

    [Test]
    public void Load_folder_without_the_files_names_the_missing_one() =>
        FluentActions.Invoking(() => StreamData.Load(folder.Path, DataFormat.Mnist))
            .Should().Throw<DataFileException>().WithMessage("*train-images-idx3-ubyte doesn't exist, nor does the same with .gz.");

    [Test]
    public void Load_too_few_training_samples_throws()
    {
        WriteMnist(trainingLabels: [0, 1, 2, 3, 4], testLabels: [1]);
        FluentActions.Invoking(() => StreamData.Load(folder.Path, DataFormat.Mnist)).Should().Throw<DataFileException>().WithMessage("*has 5 training samples; at least 6*");
    }

    [Test]
    public void Load_test_images_of_another_size_throws()
    {
        WriteMnist(trainingLabels: [0, 1, 2, 3, 4, 5], testLabels: [1], testSide: 14);
        FluentActions.Invoking(() => StreamData.Load(folder.Path, DataFormat.Mnist)).Should().Throw<DataFileException>().WithMessage("*13 × 13 × 1*14 × 14 × 1*");
    }

    [Test]
    public void Load_images_too_small_for_the_model_throws()
    {
        WriteMnist(trainingLabels: [0, 1, 2, 3, 4, 5], testLabels: [1], trainingSide: 11, testSide: 11);
        FluentActions.Invoking(() => StreamData.Load(folder.Path, DataFormat.Mnist)).Should().Throw<DataFileException>().WithMessage("*11 × 11*at least 12 × 12*");
    }

    [TestCase(1, 28, 61_706)]
    [TestCase(3, 32, 62_006)]
    public void LeNet5_has_the_parameters_of_the_literature(int channels, int side, long count)
    {
        using var model = new LeNet5(channels, side, side);
        model.parameters().Sum(parameter => parameter.numel()).Should().Be(count);
    }

    [Test]
    public void LeNet5_takes_images_of_any_size_from_the_smallest_on([Values(12, 13, 28, 31, 32, 40)] int side)
    {
        using var model = new LeNet5(1, side, side, classes: 7);
        using var input = torch.rand(2, 1, side, side);
        using var output = model.forward(input);
        output.shape.Should().Equal(2, 7);
    }

    [Test]
    public void LeNet5_copy_gives_the_same_outputs_and_lives_on_its_own()
    {
        using var model = new LeNet5(1, 28, 28);
        using var copy = model.Copy();
        using var input = torch.rand(2, 1, 28, 28);
        using var output = model.forward(input);
        using (torch.no_grad())
            model.parameters().First().zero_();
        using var fromCopy = copy.forward(input);
        fromCopy.data<float>().ToArray().Should().Equal(output.data<float>().ToArray());
    }

    private void WriteMnist(byte[] trainingLabels, byte[] testLabels, int trainingSide = 13, int testSide = 13)
    {
        WriteMnist("train", trainingLabels, trainingSide);
        WriteMnist("t10k", testLabels, testSide);
    }

    private void WriteMnist(string part, byte[] labels, int side)
    {
        var count = (uint)labels.Length;
        folder.Write($"{part}-images-idx3-ubyte", IdxReaderTests.Idx(new byte[labels.Length * side * side], count, (uint)side, (uint)side));
        folder.Write($"{part}-labels-idx1-ubyte.gz", TemporaryFolder.Gzip(IdxReaderTests.Idx(labels, count)));
    }
}
