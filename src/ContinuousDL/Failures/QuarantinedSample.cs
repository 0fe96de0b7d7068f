namespace ContinuousDL.Failures;

/// <summary>A sample that a batch can't be trained on with: it stays in the history and is never drawn again.</summary>
/// <param name="Index">Its index in the history.</param>
/// <param name="Reason">The outcome of a batch with it.</param>
/// <param name="Message">The observation: the loss, the parameter whose gradient was not finite, or the exception's message.</param>
/// <param name="Sequence">The sequence of the deployed model that the batch was tried after.</param>
public sealed record QuarantinedSample(long Index, SkipReason Reason, string Message, long Sequence);
