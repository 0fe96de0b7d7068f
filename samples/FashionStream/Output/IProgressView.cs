namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>How far a task is.</summary>
/// <param name="Samples">Samples dealt with so far.</param>
/// <param name="Accuracy">Prequential accuracy so far, in [0, 1]; null where the task has none.</param>
/// <param name="Bytes">Bytes sent to the replica so far; null where the task sends nothing.</param>
internal readonly record struct Progress(int Samples, double? Accuracy = null, long? Bytes = null);

/// <summary>Shows how a run is getting on. Thread-safe: several tasks can be in progress at the same time.</summary>
internal interface IProgressView
{
    /// <summary>A task begins.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="samples">How many samples it has to deal with.</param>
    /// <returns>What the task reports to. Used by one thread at a time.</returns>
    IProgressTask Begin(string name, int samples);
}

/// <summary>A task in progress.</summary>
internal interface IProgressTask
{
    /// <summary>The task is getting on. Called often, and quick.</summary>
    void Report(Progress progress);

    /// <summary>The task is done.</summary>
    void End();
}
