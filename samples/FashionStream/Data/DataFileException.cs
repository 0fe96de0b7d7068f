namespace ContinuousDL.Samples.FashionStream.Data;

/// <summary>A data file is missing, damaged, or not what it should be. The message is one sentence that names the file.</summary>
internal sealed class DataFileException : Exception
{
    /// <param name="path">The file or folder.</param>
    /// <param name="problem">What is wrong with it: the rest of a sentence that starts with the path.</param>
    /// <param name="innerException">What the file system or the decompressor said.</param>
    public DataFileException(string path, string problem, Exception? innerException = null)
        : base($"{path} {problem}", innerException)
    {
        Path = path;
    }

    /// <summary>The file or folder.</summary>
    public string Path { get; }
}
