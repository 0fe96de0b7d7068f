namespace ContinuousDL.Samples.FashionStream.Data;

/// <summary>
/// Reads the binary version of CIFAR-10: records of 3,073 bytes, each a label (0 to 9) and a 32 × 32 image, its red, green
/// and blue channel one after the other.
/// </summary>
internal static class Cifar10Reader
{
    private const int Channels = 3;
    private const int Side = 32;
    private const int ImageSize = Channels * Side * Side;
    private const int RecordSize = 1 + ImageSize;
    private const int Classes = 10;

    /// <summary>Reads batch files, one after the other, into one set.</summary>
    /// <param name="paths">The files, at least one.</param>
    /// <exception cref="DataFileException">A file is missing, not a whole number of records, or has a label above 9.</exception>
    public static LabelledImages Read(params ReadOnlySpan<string> paths)
    {
        var files = new byte[paths.Length][];
        var total = 0L;
        for (var f = 0; f < paths.Length; f++)
        {
            files[f] = ReadRecords(paths[f]);
            total += files[f].Length / RecordSize;
        }

        if (total * ImageSize > Array.MaxLength)
            throw new DataFileException(paths[^1], $"makes it {total:N0} images; this reader takes at most {Array.MaxLength / ImageSize:N0}.");
        var pixels = new byte[total * ImageSize];
        var labels = new byte[total];
        var image = 0;
        for (var f = 0; f < files.Length; f++)
        {
            for (var start = 0; start < files[f].Length; start += RecordSize, image++)
            {
                var record = files[f].AsSpan(start, RecordSize);
                if (record[0] >= Classes)
                {
                    throw new DataFileException(
                        paths[f], $"has the label {record[0]} in record {(start / RecordSize) + 1:N0}; CIFAR-10 has the labels 0 to {Classes - 1}.");
                }

                labels[image] = record[0];
                record[1..].CopyTo(pixels.AsSpan(image * ImageSize));
            }
        }

        return new LabelledImages(pixels, labels, Channels, Side, Side);
    }

    private static byte[] ReadRecords(string path)
    {
        try
        {
            var length = new FileInfo(path).Length;
            if (length == 0 || length % RecordSize != 0)
            {
                throw new DataFileException(
                    path, $"is not a CIFAR-10 batch: its {length:N0} bytes are not a whole number of records of {RecordSize:N0} bytes.");
            }

            if (length > Array.MaxLength)
                throw new DataFileException(path, $"has {length:N0} bytes; this reader takes at most {Array.MaxLength:N0}.");
            return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DataFileException(path, $"can't be read: {e.Message}", e);
        }
    }
}
