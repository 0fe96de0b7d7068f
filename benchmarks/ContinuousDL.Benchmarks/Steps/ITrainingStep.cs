namespace ContinuousDL.Benchmarks.Steps;

/// <summary>One way to train: a model, data and an optimizer of its own.</summary>
internal interface ITrainingStep : IDisposable
{
    /// <summary>Trains on one mini-batch.</summary>
    void Step();
}
