using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace ContinuousDL.Failures;

/// <summary>Why a batch can't be trained on: every reason for which a trainer refuses a step is one of these.</summary>
/// <param name="Reason">The kind of problem.</param>
/// <param name="Message">The observation, as a sentence.</param>
internal sealed record StepProblem(SkipReason Reason, string Message)
{
    private const int MostSamplesNamed = 8;

    /// <summary>The loss of the batch; NaN where it was not computed.</summary>
    public double Loss { get; init; } = double.NaN;

    /// <summary>The parameter whose gradient is not finite, if that is the problem.</summary>
    public string? Parameter { get; init; }

    /// <summary>The exception that was thrown, if that is the problem.</summary>
    public Exception? Cause { get; init; }

    /// <summary>Throws the problem as the exception that a caller of <see cref="ProactiveTrainer.Step()"/> gets.</summary>
    /// <param name="quarantined">The samples that were found to be the reason.</param>
    public void Throw(IReadOnlyList<QuarantinedSample> quarantined)
    {
        var message = $"{Message} The model is as it was before the step.{Describe(quarantined)}";
        if (Cause is null) throw new NonFiniteException(message, Loss, Parameter, quarantined);

        // An exception of the caller's own code is the caller's to recognise; of libtorch's it could tell nothing.
        if (quarantined.Count == 0 && Cause is not ExternalException) ExceptionDispatchInfo.Throw(Cause);
        throw new BatchFailedException(message, Cause, quarantined);
    }

    private static string Describe(IReadOnlyList<QuarantinedSample> quarantined)
    {
        if (quarantined.Count == 0) return string.Empty;
        var named = string.Join(", ", quarantined.Take(MostSamplesNamed).Select(s => s.Index));
        var others = quarantined.Count > MostSamplesNamed ? $" and {quarantined.Count - MostSamplesNamed} more" : string.Empty;
        return $" In quarantine from now on: sample {named}{others}.";
    }
}
