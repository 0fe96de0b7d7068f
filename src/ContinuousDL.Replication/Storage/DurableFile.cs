using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ContinuousDL.Replication.Storage;

/// <summary>Files that survive a crash: they are there whole or not at all, and stay once they are there.</summary>
public static class DurableFile
{
    /// <summary>The end of the name of a file that is still being written, after the name it will have and some hexadecimal digits.</summary>
    public const string TemporarySuffix = ".tmp";

    /// <summary>Writes a file beside its place, flushes it to disk, and only then gives it its name, in place of a file of that name.</summary>
    /// <param name="path">Where it is to be.</param>
    /// <param name="write">Writes its content.</param>
    /// <param name="bufferSize">How many bytes to collect before they are written; 0 where they come in large pieces anyway.</param>
    /// <param name="temporaryPath">Where to write it first, in the same directory, where nothing is. Default: a name that nothing else has.</param>
    /// <param name="cancellationToken">Gives up before the file has its name.</param>
    /// <exception cref="IOException">It could not be written. The file that was there stays, and nothing else is left.</exception>
    public static void Write(string path, Action<Stream> write, int bufferSize = 1 << 16, string? temporaryPath = null, CancellationToken cancellationToken = default)
    {
        var target = Path.GetFullPath(path);
        var temporary = temporaryPath ?? $"{target}.{Guid.NewGuid():N}{TemporarySuffix}";
        var file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize);
        try
        {
            using (file)
            {
                using var stream = new CancellableStream(file, cancellationToken);
                write(stream);
                file.Flush();
                Flush(file.SafeFileHandle, target);
            }

            cancellationToken.ThrowIfCancellationRequested();
            Replace(temporary, target);
        }
        catch
        {
            TryDelete(temporary);
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

    /// <summary>Waits until the disk has what was written to a file.</summary>
    /// <param name="file">The file.</param>
    /// <param name="path">Where it is, for the message.</param>
    /// <remarks>
    /// Implementation note. <c>RandomAccess.FlushToDisk</c> and <c>FileStream.Flush(true)</c> of .NET 10 don't do on Unix:
    /// they take a failure for success.
    /// </remarks>
    /// <exception cref="FlushFailedException">The disk failed, or is full. The file must not be relied on any more: a later flush may succeed without having written anything.</exception>
    public static void Flush(SafeFileHandle file, string path)
    {
        if (OperatingSystem.IsWindows())
        {
            try
            {
#pragma warning disable RS0030 // On Windows it reports what fails.
                RandomAccess.FlushToDisk(file);
#pragma warning restore RS0030
                return;
            }
            catch (IOException e)
            {
                throw new FlushFailedException(path, e);
            }
        }

        var error = SystemCalls.Flush(file);
        if (error != 0 && !SystemCalls.IsUnsupported(error)) throw new FlushFailedException(path, Marshal.GetPInvokeErrorMessage(error), error);
    }

    /// <summary>Flushes the names of a directory's files to disk, where the system keeps them apart from the files.</summary>
    /// <exception cref="FlushFailedException">The disk failed, or is full.</exception>
    /// <exception cref="IOException">The directory can't be opened.</exception>
    public static void FlushDirectory(string directory)
    {
        if (OperatingSystem.IsWindows()) return;
        var error = SystemCalls.FlushDirectory(directory, out var isOpened);
        var reason = Marshal.GetPInvokeErrorMessage(error);

        // A directory may be one to write to and not to read. Any other error of flushing says that this file system doesn't know the operation.
        if (!isOpened && error is not (SystemCalls.AccessDenied or SystemCalls.PermissionDenied)) throw new IOException($"The directory '{directory}' can't be opened to be flushed: {reason}", error);
        if (!isOpened) return;
        if (error is SystemCalls.IOError or SystemCalls.NoSpace or SystemCalls.ReadOnlyFileSystem || error == SystemCalls.QuotaExceeded)
        {
            throw new FlushFailedException(directory, reason, error);
        }
    }

    /// <summary>Whether a name is that of a file that <see cref="Write"/> had not finished when the process ended.</summary>
    /// <param name="name">The name.</param>
    /// <param name="finished">The name that it would have got.</param>
    public static bool IsUnfinished(string name, out string finished)
    {
        finished = "";
        if (!name.EndsWith(TemporarySuffix, StringComparison.Ordinal)) return false;
        var stem = name.AsSpan(0, name.Length - TemporarySuffix.Length);
        var dot = stem.LastIndexOf('.');
        if (dot <= 0 || dot == stem.Length - 1 || stem[(dot + 1)..].ContainsAnyExcept("0123456789abcdef")) return false;
        finished = name[..dot];
        return true;
    }

    /// <summary>Deletes what earlier processes left of the files of a folder that they had not finished.</summary>
    /// <param name="directory">The folder. Those in it are left alone, and so are links.</param>
    /// <param name="isOwn">Whether a file that would have got this name is the caller's.</param>
    public static void DeleteUnfinished(string directory, Func<string, bool> isOwn)
    {
        var folder = new DirectoryInfo(directory);
        if (folder.Attributes.HasFlag(FileAttributes.ReparsePoint)) return;
        foreach (var file in folder.EnumerateFiles("*" + TemporarySuffix, new EnumerationOptions { AttributesToSkip = FileAttributes.ReparsePoint, IgnoreInaccessible = false }))
        {
            if (IsUnfinished(file.Name, out var finished) && isOwn(finished)) file.Delete();
        }
    }

    /// <summary>Deletes a file that is of no use any more, if that can be done.</summary>
    public static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // What was in the way of writing may be in the way of deleting, too. The error of the writing is the one to be told.
        }
    }
}
