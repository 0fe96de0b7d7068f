using ContinuousDL.Optimization;
using ContinuousDL.Replication.Models;
using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Deployment;

/// <summary>
/// Where compression takes place: turns the gradient of a step into a step of the trained model and the few coordinates of
/// the deployed model that change.
/// </summary>
/// <remarks>
/// <see cref="UpdateCompression"/>, <see cref="GradientCompression"/>, <see cref="ReplicaDifference"/>, and
/// <see cref="DenseDeployment"/>, which compresses nothing. Serves one trainer. Its state is residuals and random state, with the
/// states of the parts that it is made of, but neither the rule's state nor the model's, trained or deployed; it is loaded after
/// <see cref="Attach"/>, when trained and deployed model are as they were then. Not thread-safe.
/// </remarks>
public interface IDeploymentStrategy : IDisposable, IStateful
{
    /// <summary>Whether deployed float32 parameters may be rounded to a precision. Asked before <see cref="Attach"/>.</summary>
    /// <param name="precision">The precision.</param>
    /// <returns>True, unless an implementation says otherwise. A trainer refuses options that its strategy does not allow.</returns>
    bool Allows(DeployedValuePrecision precision) => true;

    /// <summary>Prepares for a model. Called once, before anything else.</summary>
    /// <param name="trainable">The trainable parameters as one vector. It stays the trainer's.</param>
    /// <param name="rule">The optimizer. It stays the trainer's.</param>
    /// <param name="deployed">The deployed model. It stays the trainer's.</param>
    /// <exception cref="InvalidOperationException">The strategy is in use already.</exception>
    void Attach(TrainableVector trainable, IUpdateRule rule, DeployedModel deployed);

    /// <summary>Takes one step, with the gradients that the trainable vector has. They are finite.</summary>
    void Step();

    /// <summary>
    /// Forgets what is owed: the next step starts from the model as it is. Called between steps, when trained and deployed model
    /// have just been given the same values.
    /// </summary>
    void Reset();
}
