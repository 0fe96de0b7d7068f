using Microsoft.Extensions.Logging;

namespace ContinuousDL.Diagnostics;

/// <summary>The messages of the library's log.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Information, "Training a model of {Coordinates} coordinates, {Trainable} of them trainable, deployed by {Strategy}")]
    public static partial void Started(ILogger logger, int coordinates, int trainable, string strategy);

    [LoggerMessage(2, LogLevel.Debug, "Sequence {Sequence}: loss {Loss} on {NewSamples} new and {HistoricalSamples} historical samples, {Coordinates} coordinates changed")]
    public static partial void Stepped(ILogger logger, long sequence, double loss, int newSamples, int historicalSamples, int coordinates);

    [LoggerMessage(3, LogLevel.Warning, "A step after sequence {Sequence} was skipped: {Problem}")]
    public static partial void StepSkipped(ILogger logger, long sequence, string problem);

    [LoggerMessage(9, LogLevel.Debug, "The state at sequence {Sequence} was saved to {Path}")]
    public static partial void CheckpointSaved(ILogger logger, long sequence, string path);

    [LoggerMessage(10, LogLevel.Error, "The state at sequence {Sequence} could not be saved to {Path}")]
    public static partial void CheckpointFailed(ILogger logger, long sequence, string path, Exception problem);

    [LoggerMessage(11, LogLevel.Information, "Restored the state at sequence {Sequence}, with {Pending} samples to train on that came after it")]
    public static partial void Restored(ILogger logger, long sequence, long pending);

    [LoggerMessage(12, LogLevel.Information, "Sequence {Sequence} goes on from what the replicas have: {Coordinates} coordinates differed")]
    public static partial void Continued(ILogger logger, long sequence, int coordinates);

    [LoggerMessage(13, LogLevel.Warning, "Sequence {Sequence} rolls the model back to an older state, of sequence {Older}")]
    public static partial void RolledBack(ILogger logger, long sequence, long older);

    [LoggerMessage(14, LogLevel.Error, "The sampler threw at sequence {Sequence} when it was told of samples, which it must not; training goes on")]
    public static partial void SamplerFailed(ILogger logger, long sequence, Exception problem);

    [LoggerMessage(20, LogLevel.Warning, "Sample {Index} was put into quarantine after sequence {Sequence}: {Problem}")]
    public static partial void SampleQuarantined(ILogger logger, long index, long sequence, string problem);
}
