namespace ContinuousDL.Deployment;

/// <summary>A strategy keeps what it owes to one model, and so can't serve two.</summary>
internal static class AttachOnce
{
    public static void ThrowIfAttached(object? attached, IDeploymentStrategy strategy)
    {
        if (attached is not null) throw new InvalidOperationException($"This {strategy.GetType().Name} serves a trainer already; make a new one for each.");
    }
}
