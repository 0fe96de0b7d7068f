namespace ContinuousDL.Vectors;

/// <summary>
/// What becomes of the values that a parameter is owed when it is frozen (<c>requires_grad = false</c>): computed by the optimizer, not
/// deployed yet. The parameter itself does not change in either case.
/// </summary>
public enum OwedWhenFrozen
{
    /// <summary>They wait, and are deployed like any others once the parameter is trained again.</summary>
    Wait,

    /// <summary>
    /// They are forgotten. Where training is ahead of what is deployed (a look-ahead, <see cref="Deployment.ReplicaDifference"/>), the
    /// trained parameter becomes the deployed one.
    /// </summary>
    Drop,
}
