using ContinuousDL.Samples.FashionStream.Data;

namespace ContinuousDL.Tests.Samples;

public sealed class Cifar10ReaderTests
{
    private const int ImageSize = 3 * 32 * 32;

    private TemporaryFolder folder = null!;

    [SetUp]
    public void SetUp() => folder = new TemporaryFolder();

    [TearDown]
    public void TearDown() => folder.Dispose();

    [Test]
    public void Read_gives_the_records_of_all_files_in_their_order()
    {
        var read = Cifar10Reader.Read(
            folder.Write("first", [.. Record(7, red: 255, green: 0, blue: 51), .. Record(0, 1, 2, 3)]),
            folder.Write("second", Record(9, 4, 5, 6)));

        read.Labels.ToArray().Should().Equal(7, 0, 9);
        var (images, _) = read.Batch(0, 3);
        using (images)
        {
            images.shape.Should().Equal(3, 3, 32, 32);
            images[0, 0, 31, 31].item<float>().Should().Be(1);
            images[0, 1, 0, 0].item<float>().Should().Be(0);
            images[0, 2, 5, 6].item<float>().Should().Be(51 / 255f);
            images[2, 1, 5, 6].item<float>().Should().Be(5 / 255f);
        }
    }

    [Test]
    public void Read_empty_or_truncated_file_throws([Values(0, 1, ImageSize, ImageSize + 2)] int length) =>
        FluentActions.Invoking(() => Cifar10Reader.Read(folder.Write("batch", new byte[length])))
            .Should().Throw<DataFileException>().WithMessage("*batch is not a CIFAR-10 batch*");

    [Test]
    public void Read_label_out_of_range_names_the_record() =>
        FluentActions.Invoking(() => Cifar10Reader.Read(folder.Write("batch", [.. Record(1, 0, 0, 0), .. Record(10, 0, 0, 0)])))
            .Should().Throw<DataFileException>().WithMessage("*batch has the label 10 in record 2*");

    [Test]
    public void Read_file_that_does_not_exist_says_so() =>
        FluentActions.Invoking(() => Cifar10Reader.Read(Path.Combine(folder.Path, "nothing")))
            .Should().Throw<DataFileException>().WithMessage("*nothing can't be read*");

    [Test]
    public void Load_takes_the_training_batches_that_there_are()
    {
        folder.Write("data_batch_1.bin", Records(8));
        folder.Write("data_batch_2.bin", Records(4));
        folder.Write("test_batch.bin", Records(3));

        var data = StreamData.Load(folder.Path, DataFormat.Cifar10);

        (data.InitialCount, data.StreamCount, data.Test.Count, data.Classes).Should().Be((2, 10, 3, 10));
    }

    [Test]
    public void Load_missing_batch_between_others_throws()
    {
        folder.Write("data_batch_1.bin", Records(8));
        folder.Write("data_batch_3.bin", Records(8));
        folder.Write("test_batch.bin", Records(3));
        FluentActions.Invoking(() => StreamData.Load(folder.Path, DataFormat.Cifar10)).Should().Throw<DataFileException>().WithMessage("*data_batch_2.bin doesn't exist*");
    }

    private static byte[] Records(int count) => [.. Enumerable.Range(0, count).SelectMany(i => Record((byte)(i % 10), 1, 2, 3))];

    private static byte[] Record(byte label, byte red, byte green, byte blue) =>
    [
        label,
        .. Enumerable.Repeat(red, ImageSize / 3),
        .. Enumerable.Repeat(green, ImageSize / 3),
        .. Enumerable.Repeat(blue, ImageSize / 3),
    ];
}
