namespace ContinuousDL.Replication.Storage;

/// <summary>Tells a full disk, or a used-up quota, from other errors: what failed can be done again when there is room.</summary>
internal static class DiskFull
{
    private const int WindowsHandleFull = unchecked((int)0x80070027), WindowsFull = unchecked((int)0x80070070), WindowsQuota = unchecked((int)0x80070519);

    public static bool Is(IOException e) => OperatingSystem.IsWindows()
        ? e.HResult is WindowsHandleFull or WindowsFull or WindowsQuota
        : e.HResult == SystemCalls.NoSpace || e.HResult == SystemCalls.QuotaExceeded;
}
