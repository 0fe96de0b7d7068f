using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Replicas;

/// <summary>One of the two copies of a model that a replica works with, and what it takes to use it.</summary>
/// <remarks>
/// A model whose uses never write to its values needs none of the members that watch for that. Only <see cref="IsChanged"/> is called
/// by several threads at once.
/// </remarks>
/// <typeparam name="TModel">The type of the model.</typeparam>
/// <param name="model">The model.</param>
/// <param name="tensors">Works on its values.</param>
public abstract class ReplicaCopy<TModel>(TModel model, ITensorAccess tensors) : IDisposable
    where TModel : class
{
    /// <summary>The model.</summary>
    public TModel Model { get; } = model ?? throw new ArgumentNullException(nameof(model));

    /// <summary>Works on its values.</summary>
    public ITensorAccess Tensors { get; } = tensors ?? throw new ArgumentNullException(nameof(tensors));

    /// <summary>Whether it is known that uses write to the model's values, so that they are made one at a time. Default: no.</summary>
    public virtual bool WritesToItself => false;

    /// <summary>Notes the present values before a use, as far as is needed to put back what it writes to. Default: nothing is noted.</summary>
    /// <param name="knowsWrites">Whether a use has shown already what it writes to.</param>
    /// <param name="other">The other copy, where a use may have shown it.</param>
    public virtual void Watch(bool knowsWrites, ReplicaCopy<TModel> other)
    {
    }

    /// <summary>Whether the values are others than <see cref="Watch"/> noted. Default: never.</summary>
    public virtual bool IsChanged() => false;

    /// <summary>Puts back what was written to since <see cref="Watch"/>. Nobody else is using the copy.</summary>
    /// <returns>The name of a tensor that could not be put back, or null.</returns>
    public virtual string? PutBack() => null;

    /// <summary>Lets go of what was noted and has turned out not to be needed.</summary>
    public virtual void Trim()
    {
    }

    /// <summary>Disposes the model. The access to its values is disposed of by the replica, when both copies are done with.</summary>
    public abstract void Dispose();
}
