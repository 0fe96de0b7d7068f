using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ContinuousDL.Replication.Storage;

/// <summary>
/// Says that a directory has a writer, by a lock on a file in it: one at a time has it, in this process or another, and it goes
/// with the process that has it.
/// </summary>
/// <remarks>
/// Implementation note. On Unix the lock that the framework takes for <see cref="FileShare.None"/> is one to be missed: an
/// environment variable (<c>DOTNET_SYSTEM_IO_DISABLEFILELOCKING</c>) turns it off, and a file system without locks makes it do
/// without. So it is taken here, too, and is the same one: <c>flock</c>, which, unlike that of <c>fcntl</c>, is not lost when the
/// process closes the file somewhere else.
/// </remarks>
public sealed class DirectoryLock : IDisposable
{
    private const int WindowsSharingViolation = unchecked((int)0x80070020);

    private readonly SafeFileHandle file;

    private DirectoryLock(SafeFileHandle file) => this.file = file;

    /// <summary>Takes the lock of a directory.</summary>
    /// <param name="directory">The directory, which exists.</param>
    /// <param name="name">The name of the file; made if there is none, and left there.</param>
    /// <returns>The lock; null where somebody has it already.</returns>
    /// <exception cref="IOException">Nothing can be written there, or not be locked; the message says which.</exception>
    public static DirectoryLock? TryTake(string directory, string name)
    {
        SafeFileHandle file;
        try
        {
            file = File.OpenHandle(Path.Combine(directory, name), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return IsConflict(e) ? null : throw CannotWrite(directory, name, e);
        }

        var error = OperatingSystem.IsWindows() ? 0 : SystemCalls.TryLock(file);
        if (error == 0) return new DirectoryLock(file);
        file.Dispose();
        if (error == SystemCalls.WouldBlock) return null;
        throw new IOException(
            $"'{Path.Combine(directory, name)}' can't be locked: {Marshal.GetPInvokeErrorMessage(error)} A second writer would not be noticed there; choose a directory on a file system that has locks.", error);
    }

    /// <summary>Lets the directory go.</summary>
    public void Dispose() => file.Dispose();

    private static bool IsConflict(Exception e) => e.HResult == (OperatingSystem.IsWindows() ? WindowsSharingViolation : SystemCalls.WouldBlock);

    private static IOException CannotWrite(string directory, string name, Exception e)
    {
        var reason = e is UnauthorizedAccessException ? "this user may not write there"
            : !OperatingSystem.IsWindows() && e.HResult == SystemCalls.ReadOnlyFileSystem ? "it is on a file system that is mounted read-only"
            : $"'{name}' can't be opened";
        return new IOException($"The directory '{directory}' can't be written to: {reason}. ({e.Message})", e) { HResult = e.HResult };
    }
}
