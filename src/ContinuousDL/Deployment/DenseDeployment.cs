using ContinuousDL.Optimization;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;
using ContinuousDL.State;
using ContinuousDL.Vectors;

namespace ContinuousDL.Deployment;

/// <summary>
/// Compresses nothing: the optimizer steps as in an ordinary training loop, bit for bit, and the whole model is deployed.
/// The baseline that sparse deployment is compared with.
/// </summary>
public sealed class DenseDeployment : IDeploymentStrategy
{
    private TrainableVector? vector;
    private IUpdateRule? optimizer;
    private DeployedModel? model;

    /// <inheritdoc />
    /// <remarks>The trained values are deployed as they are, so that only <see cref="DeployedValuePrecision.Float32"/> is allowed.</remarks>
    public bool Allows(DeployedValuePrecision precision) => precision == DeployedValuePrecision.Float32;

    /// <inheritdoc />
    /// <exception cref="NotSupportedException">The model's values take 2 GiB or more, which no update can carry as a whole.</exception>
    public void Attach(TrainableVector trainable, IUpdateRule rule, DeployedModel deployed)
    {
        AttachOnce.ThrowIfAttached(vector, this);
        ArgumentNullException.ThrowIfNull(deployed);
        UpdateBuilder.ThrowIfTooLarge(deployed.Layout);
        (vector, optimizer, model) = (trainable, rule, deployed);
    }

    /// <inheritdoc />
    public void Step()
    {
        optimizer!.BeginStep(vector!.ForRule(vector.HasGradient));
        optimizer.ApplyUpdate();
        model!.TakeAll();
    }

    /// <inheritdoc />
    public void Reset()
    {
    }

    string IStateful.StateKind => nameof(DenseDeployment);

    void IStateful.WriteState(BinaryWriter writer)
    {
    }

    Action IStateful.ReadState(BinaryReader reader, int version) => static () => { };

    /// <inheritdoc />
    public void Dispose()
    {
    }
}
