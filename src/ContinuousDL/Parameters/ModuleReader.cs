using ContinuousDL.Replication.Models;
using static TorchSharp.torch;

namespace ContinuousDL.Parameters;

/// <summary>Finds a module's tensors, in the order of their coordinates, and what they are called.</summary>
internal static class ModuleReader
{
    /// <summary>The dtype in TorchSharp's terms.</summary>
    public static ScalarType ToScalarType(this DType dtype) => (ScalarType)dtype;

    /// <summary>A dtype in the terms of what is replicated.</summary>
    /// <exception cref="NotSupportedException">Its elements take more than 8 bytes, or their size is not known.</exception>
    public static DType ToDType(this ScalarType dtype) => Enum.IsDefined((DType)dtype) ? (DType)dtype : throw new NotSupportedException(
        $"Tensors of dtype {dtype} cannot be deployed: their elements take more than 8 bytes, or their size is not known.");

    /// <summary>The layout of a module, and for each of its tensors the handles, that under its first name first: tied weights may have several.</summary>
    /// <param name="module">The module. Its tensors stay its own.</param>
    /// <exception cref="NotSupportedException">It has more than <see cref="int.MaxValue"/> coordinates, or a dtype with elements of more than 8 bytes.</exception>
    public static (ModelLayout Layout, Tensor[][] Handles) Read(nn.Module module)
    {
        ArgumentNullException.ThrowIfNull(module);
        var found = TensorsOf(module).GroupBy(t => TensorIdentity.Of(t.Tensor)).ToArray();
        var layout = ModelLayout.Of(found.Select(g => g.First()).Select(t => new TensorDescription(t.Name, t.Kind, t.Tensor.dtype.ToDType(), t.Tensor.shape)));
        return (layout, [.. found.Select(g => g.Select(t => t.Tensor).ToArray())]);
    }

    /// <summary>The names of a module's tensors.</summary>
    /// <param name="module">The module. Its tensors stay its own.</param>
    public static TensorNames NamesOf(nn.Module module)
    {
        var (layout, handles) = Read(module);
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

    private static IEnumerable<(string Name, CoordinateKind Kind, Tensor Tensor)> TensorsOf(nn.Module module)
    {
        foreach (var (name, parameter) in module.named_parameters()) yield return (name, CoordinateKind.Parameter, parameter);
        foreach (var (name, buffer) in module.named_buffers(recurse: true, include_nonpersistent: false))
        {
            if (buffer is not null && !buffer.IsInvalid) yield return (name, CoordinateKind.Buffer, buffer);
        }
    }
}
