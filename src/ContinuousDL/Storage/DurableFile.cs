using System.ComponentModel;
using System.Runtime.InteropServices;

namespace ContinuousDL.Storage;

/// <summary>Files that survive a crash: they are there whole or not at all, and stay once they are there.</summary>
internal static partial class DurableFile
{
    /// <summary>What the name of a file that is still being written ends with.</summary>
    public const string TemporarySuffix = ".tmp";

    private const int IOError = 5;

    /// <summary>Writes a file beside its place, flushes it to disk, and only then gives it its name, in place of a file of that name.</summary>
    /// <param name="path">Where it is to be.</param>
    /// <param name="write">Writes its content.</param>
    public static void Write(string path, Action<Stream> write)
    {
        var target = Path.GetFullPath(path);
        var temporary = $"{target}.{Guid.NewGuid():N}{TemporarySuffix}";
        try
        {
            using (var file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 1 << 16))
            {
                write(file);
                file.Flush(flushToDisk: true);
            }

            Replace(temporary, target);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>Gives a finished file its name, in place of a file that may have it: whoever looks sees the old one or the new one.</summary>
    /// <param name="temporary">The file, in the same directory, flushed to disk.</param>
    /// <param name="path">The name it is to have.</param>
    public static void Replace(string temporary, string path)
    {
        File.Move(temporary, path, overwrite: true);
        FlushDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    /// <summary>Flushes the names of a directory's files to disk, where the system keeps them apart from the files.</summary>
    /// <exception cref="IOException">The disk failed.</exception>
    public static void FlushDirectory(string directory)
    {
        if (OperatingSystem.IsWindows()) return;
        var descriptor = Open(directory, flags: 0);
        if (descriptor < 0) return;
        var error = Synchronize(descriptor) == 0 ? 0 : Marshal.GetLastPInvokeError();
        _ = Close(descriptor);

        // Any other error says that this file system doesn't know the operation, as is so with some network shares.
        if (error == IOError) throw new IOException($"The directory '{directory}' could not be flushed to disk.", new Win32Exception(error));
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Synchronize(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}
