namespace ContinuousDL.Failures;

/// <summary>Why a step changed nothing; and why a sample is in quarantine: what became of the steps that it was in.</summary>
public enum SkipReason
{
    /// <summary>The loss was NaN or infinite.</summary>
    NonFiniteLoss,

    /// <summary>A gradient held NaN or an infinity.</summary>
    NonFiniteGradient,

    /// <summary>The forward pass left NaN or an infinity in a buffer, or in a parameter that it moves.</summary>
    NonFiniteState,

    /// <summary>The model, the loss or the backward pass threw an exception.</summary>
    Failure,

    /// <summary>The history could not give a sample out, because it is damaged.</summary>
    UnreadableSample,
}
