using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>The layout of a module with all names of its tensors: one that several layers share has a name in each of them.</summary>
internal sealed class TensorNames
{
    private readonly List<string>[] names;

    private TensorNames(ModelLayout layout, List<string>[] names) => (Layout, this.names) = (layout, names);

    public ModelLayout Layout { get; }

    /// <summary>The names of a module's tensors. They stay the module's own.</summary>
    public static TensorNames Of(nn.Module module)
    {
        var layout = ModelLayout.Of(module, out var handles);
        var owners = handles.Select((h, i) => (Identity: TensorIdentity.Of(h[0]), i)).ToDictionary(o => o.Identity, o => o.i);
        List<string>[] names = [.. layout.Entries.Select(e => new List<string> { e.Name })];
        var known = layout.Entries.Select(e => e.Name).ToHashSet();

        // The dictionary of the state lists a shared tensor in each layer that has it, unlike the lists of parameters and buffers.
        foreach (var (name, tensor) in module.state_dict())
        {
            if (known.Contains(name) || tensor is null || tensor.IsInvalid) continue;
            if (owners.TryGetValue(TensorIdentity.Of(tensor), out var owner)) names[owner].Add(name);
        }

        return new TensorNames(layout, names);
    }

    /// <summary>The names of a tensor of the layout, the layout's own first.</summary>
    public IReadOnlyList<string> NamesOf(int entry) => names[entry];
}
