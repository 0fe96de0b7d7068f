namespace ContinuousDL.Failures;

/// <summary>
/// Training has changed a non-persistent buffer, which neither updates nor checkpoints have, so that replicas would answer
/// differently. The model is as it was before the step.
/// </summary>
public sealed class NonPersistentStateException : InvalidOperationException
{
    internal NonPersistentStateException(string buffer)
        : base(
            $"Training has changed the non-persistent buffer '{buffer}', which neither replicas nor checkpoints get. Register it as persistent, or, if "
            + "no prediction depends on it, set ProactiveTrainerOptions.NonPersistentBuffers to Ignore. "
            + "The model is as it was before the step.")
    {
        BufferName = buffer;
    }

    /// <summary>The name of the buffer.</summary>
    public string BufferName { get; }
}
