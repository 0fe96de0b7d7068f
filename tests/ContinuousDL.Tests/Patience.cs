namespace ContinuousDL.Tests;

/// <summary>How long tests wait for what other threads do.</summary>
internal static class Patience
{
    /// <summary>Far longer than anything takes that happens at all, on a machine that is busy with something else, too. Only a test that fails waits so long.</summary>
    public static readonly TimeSpan Limit = TimeSpan.FromMinutes(2);
}
