using System.Reflection;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ContinuousDL.Replication.Storage;

/// <summary>Calls that Unix offers for files and the framework doesn't offer, or reports as done when it failed.</summary>
internal static partial class SystemCalls
{
    public const int PermissionDenied = 1, Interrupted = 4, IOError = 5, AccessDenied = 13, NoSpace = 28, ReadOnlyFileSystem = 30;

    private const string Library = "libc";
    private const int InvalidArgument = 22;
    private const int FullFlushOnMac = 51;
    private const int LockExclusively = 2, DoNotWait = 4;

    // A process may put functions of its own in place of the C library's: those that the whole process sees are the ones to call.
    static SystemCalls() => NativeLibrary.SetDllImportResolver(
        typeof(SystemCalls).Assembly, static (string name, Assembly _, DllImportSearchPath? _) => name == Library ? NativeLibrary.GetMainProgramHandle() : 0);

    public static int QuotaExceeded => OperatingSystem.IsLinux() ? 122 : 69;

    public static int WouldBlock => OperatingSystem.IsLinux() ? 11 : 35;

    /// <summary>Whether an error says that the file system doesn't know the operation, as some network shares do.</summary>
    public static bool IsUnsupported(int error) => error == InvalidArgument || (OperatingSystem.IsLinux() ? error is 95 or 38 : error is 45 or 102 or 78);

    /// <summary>Has the disk write what the system has of a file.</summary>
    /// <returns>0, or the error.</returns>
    public static int Flush(SafeFileHandle file)
    {
        // On a Mac, fsync leaves what was written in the disk's own memory. Not every file system there knows the other call.
        if (OperatingSystem.IsMacOS() && Repeat(() => Control(file, FullFlushOnMac)) == 0) return 0;
        return Repeat(() => Synchronize(file));
    }

    /// <summary>The same for the names in a directory.</summary>
    /// <param name="directory">The directory.</param>
    /// <param name="isOpened">Whether it could be opened, and the error is that of flushing it.</param>
    /// <returns>0, or the error.</returns>
    public static int FlushDirectory(string directory, out bool isOpened)
    {
        var descriptor = -1;
        var error = Repeat(() => descriptor = Open(directory, flags: 0));
        isOpened = error == 0;
        if (!isOpened) return error;
        error = Repeat(() => Synchronize(descriptor));
        _ = Close(descriptor);
        return error;
    }

    /// <summary>Locks a file for whoever opened it; the lock goes with the handle, or with the process.</summary>
    /// <returns>0, or the error, <see cref="WouldBlock"/> where another handle has it.</returns>
    public static int TryLock(SafeFileHandle file) => Repeat(() => Lock(file, LockExclusively | DoNotWait));

    private static int Repeat(Func<int> call)
    {
        while (true)
        {
            if (call() >= 0) return 0;
            var error = Marshal.GetLastPInvokeError();
            if (error != Interrupted) return error;
        }
    }

    [LibraryImport(Library, EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport(Library, EntryPoint = "close")]
    private static partial int Close(int descriptor);

    [LibraryImport(Library, EntryPoint = "fsync", SetLastError = true)]
    private static partial int Synchronize(SafeFileHandle file);

    [LibraryImport(Library, EntryPoint = "fsync", SetLastError = true)]
    private static partial int Synchronize(int descriptor);

    [LibraryImport(Library, EntryPoint = "fcntl", SetLastError = true)]
    private static partial int Control(SafeFileHandle file, int command);

    [LibraryImport(Library, EntryPoint = "flock", SetLastError = true)]
    private static partial int Lock(SafeFileHandle file, int operation);
}
