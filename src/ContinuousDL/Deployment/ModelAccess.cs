using ContinuousDL.Parameters;

namespace ContinuousDL.Deployment;

/// <summary>Chooses how a model's coordinates are worked on, by where its tensors are.</summary>
internal static class ModelAccess
{
    private static Provider? provider;

    /// <summary>Makes the access to a model on a device.</summary>
    /// <param name="tensors">The model's tensors. They stay their owner's.</param>
    /// <param name="twin">The access to another copy of the model that gets the same updates, if there is one: what was brought to the device for one does for both.</param>
    /// <returns>The access, which is the caller's; null where the tensors are not on a device of this provider's.</returns>
    public delegate IModelAccess? Provider(ModelTensors tensors, IModelAccess? twin);

    /// <summary>Makes a package's operations those of models on its devices, from now on.</summary>
    /// <param name="value">Makes the access to them; null: there is none any more.</param>
    /// <returns>The one before.</returns>
    public static Provider? Register(Provider? value) => Interlocked.Exchange(ref provider, value);

    /// <summary>Makes the access to a model.</summary>
    /// <param name="tensors">The model's tensors. They stay their owner's.</param>
    /// <param name="twin">The access to another copy of the model that gets the same updates, if there is one.</param>
    /// <returns>The access, which is the caller's.</returns>
    public static IModelAccess Of(ModelTensors tensors, IModelAccess? twin) =>
        Volatile.Read(ref provider)?.Invoke(tensors, twin) ?? new HostModelAccess(tensors);
}
