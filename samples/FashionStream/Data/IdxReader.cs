using System.Buffers.Binary;

namespace ContinuousDL.Samples.FashionStream.Data;

/// <summary>
/// Reads the IDX format of MNIST, Fashion-MNIST and their relatives: a magic number (two zero bytes, the type of an element,
/// the number of dimensions), the size of each dimension as a big-endian 32-bit number, then the elements.
/// </summary>
internal static class IdxReader
{
    private const byte UnsignedByte = 0x08;

    /// <summary>Reads images and the labels that belong to them.</summary>
    /// <param name="imagesPath">A file of three dimensions (count, height, width) of unsigned bytes, plain or gzip.</param>
    /// <param name="labelsPath">A file of one dimension of unsigned bytes, plain or gzip.</param>
    /// <exception cref="DataFileException">A file is missing, damaged, of another format, or the two don't belong together.</exception>
    public static LabelledImages Read(string imagesPath, string labelsPath)
    {
        var (pixels, size) = ReadArray(imagesPath, dimensions: 3, "images");
        var (labels, count) = ReadArray(labelsPath, dimensions: 1, "labels");
        return size[0] == count[0]
            ? new LabelledImages(pixels, labels, channels: 1, size[1], size[2])
            : throw new DataFileException(labelsPath, $"has {count[0]:N0} labels, but {imagesPath} has {size[0]:N0} images.");
    }

    private static (byte[] Elements, int[] Size) ReadArray(string path, int dimensions, string what)
    {
        using var file = DataFile.Open(path);
        var magic = file.Read(4, "the IDX magic number");
        if (magic[0] != 0 || magic[1] != 0)
            throw new DataFileException(path, $"is not an IDX file: it starts with {Convert.ToHexString(magic)}, not two zero bytes.");
        if (magic[2] != UnsignedByte)
            throw new DataFileException(path, $"holds elements of type 0x{magic[2]:X2}; {what} must be unsigned bytes (0x{UnsignedByte:X2}).");
        if (magic[3] != dimensions)
            throw new DataFileException(path, $"has {magic[3]} dimensions; {what} need {dimensions}.");

        var header = file.Read(4L * dimensions, "the IDX header");
        var size = new int[dimensions];
        var elementCount = 1L;
        for (var d = 0; d < dimensions; d++)
        {
            var length = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(4 * d));
            if (length == 0) throw new DataFileException(path, $"holds no {what}: dimension {d + 1} is 0.");
            if (length > Array.MaxLength / elementCount)
                throw new DataFileException(path, $"claims more {what} than this reader takes: dimension {d + 1} is {length:N0}.");
            size[d] = (int)length;
            elementCount *= length;
        }

        var elements = file.Read(elementCount, $"the {what}");
        file.ExpectEnd();
        return (elements, size);
    }
}
