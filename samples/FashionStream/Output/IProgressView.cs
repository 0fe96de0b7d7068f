namespace ContinuousDL.Samples.FashionStream.Output;

/// <summary>How far the task in progress is.</summary>
/// <param name="Samples">Samples dealt with so far.</param>
/// <param name="Accuracy">Prequential accuracy so far, in [0, 1]; null where the task has none.</param>
/// <param name="Bytes">Bytes sent to the replica so far; null where the task sends nothing.</param>
internal readonly record struct Progress(int Samples, double? Accuracy = null, long? Bytes = null);

/// <summary>Shows how a run is getting on. Tasks follow each other; one is in progress at a time.</summary>
internal interface IProgressView
{
    /// <summary>A task begins.</summary>
    /// <param name="task">Its name.</param>
    /// <param name="samples">How many samples it has to deal with.</param>
    void Begin(string task, int samples);

    /// <summary>The task is getting on. Called often; must be quick.</summary>
    void Report(Progress progress);

    /// <summary>The task is done.</summary>
    void End(string task);
}
