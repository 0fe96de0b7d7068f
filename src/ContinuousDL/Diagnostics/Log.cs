using Microsoft.Extensions.Logging;

namespace ContinuousDL.Diagnostics;

/// <summary>What the library logs.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Information, "Training a model of {Coordinates} coordinates, {Trainable} of them trainable, deployed by {Strategy}")]
    public static partial void Started(ILogger logger, int coordinates, int trainable, string strategy);

    [LoggerMessage(2, LogLevel.Debug, "Sequence {Sequence}: loss {Loss} on {NewSamples} new and {HistoricalSamples} historical samples, {Coordinates} coordinates changed")]
    public static partial void Stepped(ILogger logger, long sequence, double loss, int newSamples, int historicalSamples, int coordinates);

    [LoggerMessage(3, LogLevel.Warning, "A step after sequence {Sequence} was skipped: {Problem}")]
    public static partial void StepSkipped(ILogger logger, long sequence, string problem);
}
