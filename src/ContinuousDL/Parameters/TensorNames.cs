using ContinuousDL.Memory;
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
        var layout = ModelLayout.Of(module, out var tensors);
        List<string>[] names = [.. layout.Entries.Select(e => new List<string> { e.Name })];
        var known = layout.Entries.Select(e => e.Name).ToHashSet();

        // The dictionary of the state lists a shared tensor in each layer that has it, unlike the lists of parameters and buffers.
        foreach (var (name, tensor) in module.state_dict())
        {
            if (known.Contains(name) || tensor is null || tensor.IsInvalid) continue;
            var owner = Array.FindIndex(tensors, t => IsSame(t, tensor));
            if (owner >= 0) names[owner].Add(name);
        }

        return new TensorNames(layout, names);
    }

    /// <summary>The names of a tensor of the layout, the layout's own first.</summary>
    public IReadOnlyList<string> NamesOf(int entry) => names[entry];

    private static unsafe bool IsSame(Tensor a, Tensor b) =>
        ReferenceEquals(a, b)
        || (a.numel() > 0 && a.dtype == b.dtype && a.device_type == b.device_type && a.device_index == b.device_index
            && a.shape.AsSpan().SequenceEqual(b.shape) && a.stride().AsSpan().SequenceEqual(b.stride())
            && TensorMemory.AddressOf(a) == TensorMemory.AddressOf(b));
}
