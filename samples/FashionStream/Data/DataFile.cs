using System.IO.Compression;

namespace ContinuousDL.Samples.FashionStream.Data;

/// <summary>
/// Reads a data file from start to end, plain or gzip (told by its content, not by its name), and never takes more memory
/// than bytes have really arrived, whatever sizes its header claims.
/// </summary>
internal sealed class DataFile : IDisposable
{
    /// <summary>Deflate can't compress better than 1,032 to 1; what a header claims beyond that can't be in the file.</summary>
    private const long LargestCompressionRatio = 1032;

    private const int FirstAllocation = 1 << 20;

    private readonly Stream content;
    private readonly long longestContent;

    /// <remarks>
    /// Implementation note: without this switch, GZipStream takes a file that was cut off for one that ends there, so that one
    /// that lost no more than its check sum would pass. The runtime reads it when it decompresses for the first time.
    /// </remarks>
    static DataFile() => AppContext.SetSwitch("System.IO.Compression.UseStrictValidation", true);

    private DataFile(string path, Stream content, long longestContent)
    {
        Path = path;
        this.content = content;
        this.longestContent = longestContent;
    }

    /// <summary>The file's path.</summary>
    public string Path { get; }

    /// <summary>Opens a file.</summary>
    /// <exception cref="DataFileException">It can't be opened.</exception>
    public static DataFile Open(string path)
    {
        FileStream file;
        try
        {
            file = File.OpenRead(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DataFileException(path, $"can't be opened: {e.Message}", e);
        }

        var isGzip = file.ReadByte() == 0x1f && file.ReadByte() == 0x8b;
        file.Position = 0;
        return isGzip
            ? new DataFile(path, new GZipStream(file, CompressionMode.Decompress), checked(file.Length * LargestCompressionRatio))
            : new DataFile(path, file, file.Length);
    }

    /// <summary>Reads bytes that must be there.</summary>
    /// <param name="count">How many, as a header claims.</param>
    /// <param name="what">What they are, for the error: "the pixels".</param>
    /// <exception cref="DataFileException">The file is shorter, damaged, or larger than this reader takes.</exception>
    public byte[] Read(long count, string what)
    {
        if (count > Array.MaxLength)
            throw new DataFileException(Path, $"claims {count:N0} bytes for {what}; this reader takes at most {Array.MaxLength:N0}.");
        if (count > longestContent) throw new DataFileException(Path, $"is too short: {what} should take {count:N0} bytes.");

        var bytes = new byte[(int)Math.Min(count, FirstAllocation)];
        var filled = 0;
        while (filled < count)
        {
            if (filled == bytes.Length) Array.Resize(ref bytes, (int)Math.Min(count, 2L * filled));
            var read = ReadSome(bytes.AsSpan(filled));
            if (read == 0) throw new DataFileException(Path, $"ends early: {what} should take {count:N0} bytes, there are {filled:N0}.");
            filled += read;
        }

        return bytes;
    }

    /// <summary>Checks that nothing is left.</summary>
    /// <exception cref="DataFileException">More bytes follow, or the check sum of a gzip file is wrong.</exception>
    public void ExpectEnd()
    {
        Span<byte> more = stackalloc byte[1];
        if (ReadSome(more) != 0) throw new DataFileException(Path, "goes on after the samples that its header announces.");
    }

    /// <inheritdoc />
    public void Dispose() => content.Dispose();

    private int ReadSome(Span<byte> destination)
    {
        try
        {
            return content.Read(destination);
        }
        catch (Exception e) when (e is IOException or InvalidDataException)
        {
            throw new DataFileException(Path, $"is damaged: {e.Message}", e);
        }
    }
}
