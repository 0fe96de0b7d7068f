namespace ContinuousDL;

public sealed class ProactiveTrainer;
