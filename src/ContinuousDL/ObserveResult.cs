namespace ContinuousDL;

/// <summary>The result of <see cref="ProactiveTrainer.Observe"/> for a batch of arrivals.</summary>
/// <param name="SampleCount">How many samples were kept.</param>
/// <param name="Loss">The deployed model's mean loss on them, before they were kept; null when they were not evaluated.</param>
/// <param name="PendingSamples">How many samples are new now: not trained on yet.</param>
/// <param name="IsStepDue">Whether that is at least the trigger size: time for <see cref="ProactiveTrainer.Step()"/>.</param>
public readonly record struct ObserveResult(int SampleCount, double? Loss, long PendingSamples, bool IsStepDue);
