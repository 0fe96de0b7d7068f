namespace ContinuousDL.Samples.FashionStream.Running;

/// <summary>What decides the numbers of a run, beside the data and the strategies.</summary>
/// <param name="Trigger">How many new samples start a step.</param>
/// <param name="Seed">Decides weights, order and sampling: the same seed gives the same accuracies.</param>
/// <param name="FewestEpochs">Passes over the data in the initial training and in each full retraining, at least.</param>
/// <param name="FewestSamples">
/// Samples that such a training sees, at least: a small set is passed over more often, or its model would not be worth keeping fresh.
/// </param>
internal sealed record RunSettings(
    int Trigger = RunSettings.DefaultTrigger,
    int Seed = RunSettings.DefaultSeed,
    int FewestEpochs = 10,
    int FewestSamples = 100_000)
{
    /// <summary>The trigger that the published figures are given for.</summary>
    public const int DefaultTrigger = 8;

    /// <summary>The seed unless told otherwise.</summary>
    public const int DefaultSeed = 1;

    /// <summary>
    /// How often a training passes over its data: ten times over the 10,000 of the full protocol, fifty times over the 2,000 of
    /// the embedded set.
    /// </summary>
    /// <param name="count">The number of samples.</param>
    public int Epochs(int count) => Math.Max(FewestEpochs, (FewestSamples + count - 1) / count);
}
