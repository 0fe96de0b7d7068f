namespace ContinuousDL;

/// <summary>Trains a model continuously: on new samples as they arrive, together with many from the history.</summary>
public sealed class ProactiveTrainer;
