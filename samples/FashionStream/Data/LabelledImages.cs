using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace ContinuousDL.Samples.FashionStream.Data;

/// <summary>
/// Images and their labels as they lie in a data file: a byte for each channel of each pixel, a byte for each label.
/// Batches of them come out as tensors.
/// </summary>
internal sealed class LabelledImages
{
    private readonly byte[] pixels;
    private readonly byte[] labels;
    private readonly PixelScale scale;

    /// <param name="pixels">Count × channels × height × width bytes, image by image, channel by channel, row by row.</param>
    /// <param name="labels">A label for each image.</param>
    /// <param name="channels">1 for grey, 3 for red, green, blue.</param>
    /// <param name="height">Rows of an image.</param>
    /// <param name="width">Columns of an image.</param>
    /// <param name="scale">What makes a tensor's values of bytes. Default: [0, 1].</param>
    /// <exception cref="ArgumentException">The sizes don't fit together.</exception>
    public LabelledImages(byte[] pixels, byte[] labels, int channels, int height, int width, PixelScale? scale = null)
    {
        var imageSize = (long)channels * height * width;
        if (pixels.Length != labels.Length * imageSize)
        {
            throw new ArgumentException(
                $"{labels.Length} images of {imageSize} bytes take {labels.Length * imageSize} bytes, not {pixels.Length}.", nameof(pixels));
        }

        this.pixels = pixels;
        this.labels = labels;
        this.scale = scale ?? PixelScale.UnitInterval(channels);
        (Channels, Height, Width) = (channels, height, width);
    }

    /// <summary>The number of images.</summary>
    public int Count => labels.Length;

    /// <summary>1 for grey, 3 for colour.</summary>
    public int Channels { get; }

    /// <summary>Rows of an image.</summary>
    public int Height { get; }

    /// <summary>Columns of an image.</summary>
    public int Width { get; }

    /// <summary>A label for each image, counting from 0.</summary>
    public ReadOnlySpan<byte> Labels => labels;

    /// <summary>The first <paramref name="count"/> images; all of them where there are no more.</summary>
    public LabelledImages Take(int count) =>
        count >= Count ? this : new LabelledImages(pixels[..(count * ImageSize)], labels[..count], Channels, Height, Width, scale);

    /// <summary>The same images on another scale.</summary>
    public LabelledImages WithScale(PixelScale newScale) => new(pixels, labels, Channels, Height, Width, newScale);

    /// <summary>
    /// The scale that gives the first <paramref name="count"/> images the mean 0 and the standard deviation 1, channel by channel.
    /// </summary>
    public PixelScale StandardScale(int count)
    {
        var scales = new (float Mean, float Deviation)[Channels];
        var plane = Height * Width;
        for (var c = 0; c < Channels; c++)
        {
            var (sum, squares) = (0.0, 0.0);
            for (var i = 0; i < count; i++)
            {
                foreach (var pixel in pixels.AsSpan((i * ImageSize) + (c * plane), plane))
                {
                    sum += pixel;
                    squares += (double)pixel * pixel;
                }
            }

            var n = (double)count * plane;
            var mean = sum / n;
            var deviation = Math.Sqrt(Math.Max(0, (squares / n) - (mean * mean)));
            scales[c] = ((float)mean, deviation > 0 ? (float)deviation : 1);
        }

        return new PixelScale(scales);
    }

    /// <summary>Consecutive images as tensors.</summary>
    /// <param name="first">The first image.</param>
    /// <param name="count">How many images, N.</param>
    /// <returns>float32 <c>[N, channels, height, width]</c> and int64 <c>[N]</c>. The caller owns both.</returns>
    public (Tensor Images, Tensor Labels) Batch(int first, int count)
    {
        var indices = new int[count];
        for (var i = 0; i < count; i++) indices[i] = first + i;
        return Batch(indices);
    }

    /// <summary>Any images as tensors, in the order of the indices.</summary>
    /// <param name="indices">Which images; N of them.</param>
    /// <returns>float32 <c>[N, channels, height, width]</c> and int64 <c>[N]</c>. The caller owns both.</returns>
    public (Tensor Images, Tensor Labels) Batch(ReadOnlySpan<int> indices)
    {
        var images = empty([indices.Length, Channels, Height, Width], ScalarType.Float32);
        var classes = empty([indices.Length], ScalarType.Int64);
        var imageValues = MemoryMarshal.Cast<byte, float>(images.bytes);
        var classValues = MemoryMarshal.Cast<byte, long>(classes.bytes);
        for (var i = 0; i < indices.Length; i++)
        {
            scale.Apply(pixels.AsSpan(indices[i] * ImageSize, ImageSize), imageValues.Slice(i * ImageSize, ImageSize));
            classValues[i] = labels[indices[i]];
        }

        return (images, classes);
    }

    private int ImageSize => Channels * Height * Width;
}
