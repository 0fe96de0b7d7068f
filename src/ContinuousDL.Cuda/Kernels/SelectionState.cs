namespace ContinuousDL.Cuda.Kernels;

/// <summary>Where the kernels of a selection keep what they tell one another: places in a few integers on the device.</summary>
internal static class SelectionState
{
    /// <summary>How many candidates were found, those that found no room included.</summary>
    public const int Candidates = 0;

    /// <summary>The digits known so far of the k-th magnitude; in the end, the k-th magnitude.</summary>
    public const int Threshold = 1;

    /// <summary>
    /// The rank that is looked for among the values with these digits; in the end, how many of just the threshold's magnitude
    /// are selected. 0 when fewer than k values are nonzero: all above the threshold, 0, are selected then.
    /// </summary>
    public const int Rank = 2;

    /// <summary>How many were selected.</summary>
    public const int Selected = 3;

    /// <summary>1 when the candidates didn't do, and the whole vector was looked at again.</summary>
    public const int WholeVector = 4;

    /// <summary>1 when something that was selected is not finite.</summary>
    public const int NonFinite = 5;

    /// <summary>The number of integers.</summary>
    public const int Length = 6;
}
