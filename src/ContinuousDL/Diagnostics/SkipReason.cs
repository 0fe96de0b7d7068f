namespace ContinuousDL.Diagnostics;

/// <summary>Why an iteration changed nothing; the values of the tag <c>reason</c>.</summary>
internal enum SkipReason
{
    /// <summary>The loss was NaN or infinite.</summary>
    NonFiniteLoss,

    /// <summary>A gradient held NaN or an infinity.</summary>
    NonFiniteGradient,

    /// <summary>The forward pass left NaN or an infinity in a buffer, or in a parameter that it moves.</summary>
    NonFiniteState,
}
