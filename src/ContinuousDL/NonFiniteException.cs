namespace ContinuousDL;

/// <summary>
/// A loss or a gradient is infinite or not a number: the model, the optimizer's moments and the residuals are as they were before the
/// step. Or the update is, or what it would make of a value: then the deployed model is as it was.
/// </summary>
public sealed class NonFiniteException : ArithmeticException
{
    internal NonFiniteException(string message, double loss, string? parameter)
        : base(message)
    {
        Loss = loss;
        ParameterName = parameter;
    }

    /// <summary>The loss of the step.</summary>
    public double Loss { get; }

    /// <summary>The name of the first parameter whose gradient, update or new value is not finite; null when the loss itself is not.</summary>
    public string? ParameterName { get; }
}
