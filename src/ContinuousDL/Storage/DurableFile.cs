using System.Runtime.InteropServices;

namespace ContinuousDL.Storage;

/// <summary>What makes files survive a power loss beside flushing themselves: their names, which belong to the directory.</summary>
internal static partial class DurableFile
{
    private const int InvalidArgument = 22;

    /// <summary>Gives a finished file its name, in place of a file that may have it: whoever looks sees the old one or the new one.</summary>
    /// <param name="temporary">The file, in the same directory, flushed to disk.</param>
    /// <param name="path">The name it is to have.</param>
    public static void Replace(string temporary, string path)
    {
        File.Move(temporary, path, overwrite: true);
        FlushDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    /// <summary>Flushes the names in a directory to disk. Windows does so by itself.</summary>
    /// <exception cref="IOException">It failed.</exception>
    public static void FlushDirectory(string directory)
    {
        if (OperatingSystem.IsWindows()) return;
        var descriptor = Open(directory, 0);
        if (descriptor < 0) throw Failure(directory);
        try
        {
            // Some network file systems can't flush a directory, and say so; they write names at once.
            if (Flush(descriptor) != 0 && Marshal.GetLastPInvokeError() != InvalidArgument) throw Failure(directory);
        }
        finally
        {
            _ = Close(descriptor);
        }
    }

    private static IOException Failure(string directory) =>
        new($"The directory '{directory}' could not be flushed to disk: {Marshal.GetLastPInvokeErrorMessage()}");

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Flush(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}
