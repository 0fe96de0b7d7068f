namespace ContinuousDL.Failures;

/// <summary>
/// The loss is not one that a model can be trained by, whatever the samples: not a single real number, or without a gradient.
/// Model, moments and residuals are as they were.
/// </summary>
public sealed class UnusableLossException : InvalidOperationException
{
    internal UnusableLossException(string message)
        : base(message)
    {
    }
}
