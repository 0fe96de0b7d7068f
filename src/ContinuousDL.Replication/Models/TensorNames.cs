namespace ContinuousDL.Replication.Models;

/// <summary>A layout with all names of its tensors: one that several layers of a model share has a name in each of them.</summary>
/// <param name="layout">The layout.</param>
/// <param name="names">For each of its tensors the names, the layout's own first.</param>
public sealed class TensorNames(ModelLayout layout, IReadOnlyList<IReadOnlyList<string>> names)
{
    /// <summary>The layout.</summary>
    public ModelLayout Layout { get; } = layout ?? throw new ArgumentNullException(nameof(layout));

    /// <summary>The names of a tensor, the layout's own first.</summary>
    /// <param name="tensor">The index of the tensor in the layout.</param>
    public IReadOnlyList<string> NamesOf(int tensor) => names[tensor];
}
