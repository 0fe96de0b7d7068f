using System.Buffers.Binary;
using ContinuousDL.Samples.FashionStream.Data;

namespace ContinuousDL.Tests.Samples;

public sealed class IdxReaderTests
{
    private const int Height = 3;
    private const int Width = 4;

    private TemporaryFolder folder = null!;

    [SetUp]
    public void SetUp() => folder = new TemporaryFolder();

    [TearDown]
    public void TearDown() => folder.Dispose();

    [Test]
    public void Read_gives_images_and_labels_as_they_were_written([Values] bool gzipImages, [Values] bool gzipLabels)
    {
        var pixels = Pixels(count: 5);
        byte[] labels = [3, 1, 4, 1, 5];

        var read = IdxReader.Read(
            folder.Write("images", Packed(Idx(pixels, 5, Height, Width), gzipImages)),
            folder.Write("labels", Packed(Idx(labels, 5), gzipLabels)));

        (read.Count, read.Channels, read.Height, read.Width).Should().Be((5, 1, Height, Width));
        read.Labels.ToArray().Should().Equal(labels);
        var (images, classes) = read.Batch(0, 5);
        using (images)
        using (classes)
        {
            images.shape.Should().Equal(5, 1, Height, Width);
            images.data<float>().ToArray().Should().Equal(pixels.Select(pixel => pixel / 255f));
            classes.data<long>().ToArray().Should().Equal(3, 1, 4, 1, 5);
        }
    }

    [Test]
    public void Batch_by_indices_gives_the_images_in_their_order()
    {
        var read = IdxReader.Read(
            folder.Write("images", Idx(Pixels(4), 4, Height, Width)),
            folder.Write("labels", Idx([0, 1, 2, 3], 4)));

        var (images, labels) = read.Batch([2, 0, 2]);
        var (third, _) = read.Batch(2, 1);
        using (images)
        using (labels)
        using (third)
        {
            labels.data<long>().ToArray().Should().Equal(2, 0, 2);
            images[2].data<float>().ToArray().Should().Equal(third[0].data<float>().ToArray());
        }
    }

    [Test]
    public void Read_file_that_does_not_exist_says_so() =>
        ReadImages(Path.Combine(folder.Path, "nothing")).Should().Throw<DataFileException>().WithMessage("*nothing can't be opened*");

    [Test]
    public void Read_empty_file_says_that_it_is_too_short() => ReadImages([]).Should().Throw<DataFileException>().WithMessage("*images*too short*");

    [Test]
    public void Read_wrong_magic_says_that_it_is_no_IDX_file() =>
        ReadImages("PK\u0003\u0004 and so on, for a while"u8.ToArray()).Should().Throw<DataFileException>().WithMessage("*images is not an IDX file*504B0304*");

    [Test]
    public void Read_other_element_type_names_it()
    {
        var content = Idx(Pixels(2), 2, Height, Width);
        content[2] = 0x0d;
        ReadImages(content).Should().Throw<DataFileException>().WithMessage("*0x0D*unsigned bytes*");
    }

    [Test]
    public void Read_labels_in_place_of_images_names_the_dimensions() =>
        ReadImages(Idx([1, 2], 2)).Should().Throw<DataFileException>().WithMessage("*has 1 dimensions; images need 3*");

    [Test]
    public void Read_no_images_says_so() => ReadImages(Idx([], 0, Height, Width)).Should().Throw<DataFileException>().WithMessage("*holds no images*");

    [Test]
    public void Read_truncated_at_any_byte_throws([Values] bool gzip)
    {
        var content = Packed(Idx(Pixels(3), 3, Height, Width), gzip);
        for (var length = 0; length < content.Length; length++)
            ReadImages(content[..length]).Should().Throw<DataFileException>("{0} of {1} bytes are left", length, content.Length);
    }

    [Test]
    public void Read_trailing_bytes_throws([Values] bool gzip) =>
        ReadImages(Packed([.. Idx(Pixels(3), 3, Height, Width), 0], gzip)).Should().Throw<DataFileException>().WithMessage("*goes on after*");

    [Test]
    public void Read_gzip_with_a_flipped_bit_throws()
    {
        var content = TemporaryFolder.Gzip(Idx(Pixels(50), 50, Height, Width));
        content[content.Length / 2] ^= 0x10;
        ReadImages(content).Should().Throw<DataFileException>();
    }

    [TestCase(uint.MaxValue, uint.MaxValue, uint.MaxValue)]
    [TestCase(1_000_000_000u, 1u, 1u)]
    [TestCase(60_000u, 28u, 28u)]
    public void Read_header_that_claims_more_than_the_file_has_throws_without_taking_the_memory(uint count, uint height, uint width)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        ReadImages(Header(count, height, width)).Should().Throw<DataFileException>();
        ReadImages(TemporaryFolder.Gzip(Header(count, height, width))).Should().Throw<DataFileException>();
        (GC.GetAllocatedBytesForCurrentThread() - before).Should().BeLessThan(8 << 20);
    }

    [Test]
    public void Read_more_labels_than_images_names_both_files()
    {
        var images = folder.Write("images", Idx(Pixels(2), 2, Height, Width));
        var labels = folder.Write("labels", Idx([1, 2, 3], 3));
        FluentActions.Invoking(() => IdxReader.Read(images, labels)).Should().Throw<DataFileException>().WithMessage($"{labels} has 3 labels, but {images} has 2 images.");
    }

    private Action ReadImages(byte[] content) => ReadImages(folder.Write("images", content));

    private Action ReadImages(string path) => () => IdxReader.Read(path, folder.Write("labels", Idx([1, 2, 3], 3)));

    private static byte[] Pixels(int count) => [.. Enumerable.Range(0, count * Height * Width).Select(i => (byte)(i * 37))];

    private static byte[] Packed(byte[] content, bool gzip) => gzip ? TemporaryFolder.Gzip(content) : content;

    internal static byte[] Idx(byte[] elements, params uint[] size) => [.. Header(size), .. elements];

    private static byte[] Header(params uint[] size)
    {
        var header = new byte[4 + (4 * size.Length)];
        header[2] = 0x08;
        header[3] = (byte)size.Length;
        for (var d = 0; d < size.Length; d++) BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(4 + (4 * d)), size[d]);
        return header;
    }
}
