namespace ContinuousDL.Failures;

/// <summary>
/// A loss, a gradient, or a value that the forward pass left in the model is infinite or not a number: the model, the optimizer's
/// moments and the residuals are as they were before the step. Or the update is, or what it would make of a value: then the deployed
/// model is as it was.
/// </summary>
public sealed class NonFiniteException : ArithmeticException
{
    internal NonFiniteException(string message, double loss, string? parameter, IReadOnlyList<QuarantinedSample>? quarantined = null)
        : base(message)
    {
        Loss = loss;
        ParameterName = parameter;
        Quarantined = quarantined ?? [];
    }

    /// <summary>The loss of the step.</summary>
    public double Loss { get; }

    /// <summary>The name of the first parameter whose gradient, update or new value is not finite, or of the first buffer or parameter that the forward pass left so; null when the loss itself is not.</summary>
    public string? ParameterName { get; }

    /// <summary>The samples that were found to be the reason, and are in quarantine now; none where it is not certain samples.</summary>
    public IReadOnlyList<QuarantinedSample> Quarantined { get; }
}
