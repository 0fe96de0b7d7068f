namespace ContinuousDL.Checkpoints;

/// <summary>A checkpoint can't be restored: it is damaged, no checkpoint, or of a trainer that was made otherwise. The message says which.</summary>
/// <remarks>Model and optimizer are as they were before.</remarks>
public sealed class CheckpointException : IOException
{
    internal CheckpointException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}
