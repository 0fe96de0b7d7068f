using ContinuousDL.Samples.FashionStream.Data;
using ContinuousDL.Samples.FashionStream.Running;

namespace ContinuousDL.Samples.FashionStream.Strategies;

/// <summary>Sets strategies to work.</summary>
internal static class StrategyRun
{
    /// <summary>Sets a strategy to work.</summary>
    /// <param name="strategy">The strategy.</param>
    /// <param name="initial">Where it starts. It stays the caller's.</param>
    /// <param name="data">The initial history, followed by the samples that will arrive.</param>
    /// <param name="settings">Trigger, seed, epochs.</param>
    /// <returns>The run, which the caller owns.</returns>
    public static IStrategyRun Create(Strategy strategy, TrainedModel initial, StreamData data, RunSettings settings) =>
        strategy.Kind switch
        {
            StrategyKind.Static => new SnapshotRun(initial, data, settings, retrains: false),
            StrategyKind.Retrain => new SnapshotRun(initial, data, settings, retrains: true),
            _ => new ProactiveRun(strategy, initial, data, settings),
        };
}
