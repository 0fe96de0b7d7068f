using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Parameters;

/// <summary>
/// Works on models whose tensors are on a device with operations of its own. Without one, everything goes tensor by tensor, by
/// way of main memory, with the same result.
/// </summary>
/// <remarks>Implementations are thread-safe, and load nothing before a model is on their device.</remarks>
public interface ITensorAccessProvider
{
    /// <summary>Makes the access to a model.</summary>
    /// <param name="tensors">The model's tensors. They stay the module's.</param>
    /// <param name="twin">The access to another copy of the model that gets the same updates, if there is one: what was brought to the device for one does for both.</param>
    /// <returns>The access, which is the caller's; null where the tensors are not on a device of this provider's.</returns>
    ITensorAccess? TryCreate(ModelTensors tensors, ITensorAccess? twin);
}
