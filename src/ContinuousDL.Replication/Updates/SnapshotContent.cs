using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>The tensors of a safetensors file, as those of a model's layout. Made of the header alone, before any value is read.</summary>
internal abstract class SnapshotContent
{
    /// <summary>Makes the snapshot.</summary>
    /// <param name="values">The values of the header's tensors, in its order.</param>
    /// <exception cref="SnapshotFormatException">They are not those that the snapshot was written with.</exception>
    /// <exception cref="ModelMismatchException">The values of weights that the module's layers share differ.</exception>
    public abstract ModelSnapshot ToSnapshot(IReadOnlyList<TensorValues> values);
}

/// <summary>A snapshot that this library wrote.</summary>
internal sealed class OwnSnapshotContent : SnapshotContent
{
    private readonly SnapshotMetadata metadata;
    private readonly int[] tensors;

    /// <summary>Reads the metadata.</summary>
    /// <exception cref="SnapshotFormatException">It is not valid.</exception>
    /// <exception cref="ModelMismatchException">The snapshot is of another layout than <paramref name="expected"/>.</exception>
    public OwnSnapshotContent(SafetensorsHeader header, ModelLayout? expected)
    {
        metadata = SnapshotMetadata.Parse(header);
        if (expected?.FirstDifference(metadata.Layout) is { } difference)
        {
            throw new ModelMismatchException($"The snapshot is of a model of another architecture. {difference}");
        }

        var index = header.Tensors.Select((tensor, i) => (tensor.Name, i)).ToDictionary(pair => pair.Name, pair => pair.i);
        tensors = [.. metadata.Layout.Entries.Select(e => index[e.Name])];
    }

    /// <inheritdoc />
    public override ModelSnapshot ToSnapshot(IReadOnlyList<TensorValues> values)
    {
        var snapshot = new ModelSnapshot(metadata.Layout, [.. tensors.Select(t => values[t])], metadata.RunId, metadata.Sequence);
        if (snapshot.StateDigest != metadata.Digest)
        {
            throw new SnapshotFormatException($"The values have the digest {snapshot.StateDigest:x16}, the metadata says {metadata.Digest:x16}: the snapshot is damaged.");
        }

        return metadata.Signature.Length > 0 ? snapshot.WithSignature(metadata.Signature) : snapshot;
    }
}

/// <summary>A safetensors file of another origin, read for a module.</summary>
/// <remarks>
/// Weights that layers share are one tensor of the module under several names. Other tools write such a tensor under one of the
/// names, not always the first, and note the others in the metadata as <c>name: written name</c>; or under each of them.
/// </remarks>
internal sealed class PlainSnapshotContent : SnapshotContent
{
    private readonly ModelLayout layout;
    private readonly SafetensorsHeader header;

    // For each tensor of the module those of the file, all of which must be the same.
    private readonly int[][] tensors;

    /// <summary>Finds the file's tensors in the module.</summary>
    /// <exception cref="SnapshotFormatException">There is no module to say the order of the tensors.</exception>
    /// <exception cref="ModelMismatchException">They are not the module's; the message names the first difference.</exception>
    public PlainSnapshotContent(SafetensorsHeader header, TensorNames? module)
    {
        if (module is null)
        {
            throw new SnapshotFormatException("The file does not say the order of its tensors, as one that this library did not write: load it for a module.");
        }

        (layout, this.header) = (module.Layout, header);
        var index = header.Tensors.Select((tensor, i) => (tensor.Name, i)).ToDictionary(pair => pair.Name, pair => pair.i);
        tensors = [.. layout.Entries.Select((entry, i) => Find(entry, module.NamesOf(i), index))];
        var used = tensors.SelectMany(t => t).ToHashSet();
        if (header.Tensors.Where((_, i) => !used.Contains(i)).FirstOrDefault() is { } unknown)
        {
            throw new ModelMismatchException($"The file's tensor '{unknown.Name}' is not in the module.");
        }
    }

    /// <inheritdoc />
    public override ModelSnapshot ToSnapshot(IReadOnlyList<TensorValues> values)
    {
        foreach (var same in tensors)
        {
            if (same.Skip(1).Where(t => !values[t].SequenceEqual(values[same[0]])).Select(t => header.Tensors[t].Name).FirstOrDefault() is { } other)
            {
                throw new ModelMismatchException(
                    $"The file has different values for '{header.Tensors[same[0]].Name}' and '{other}', which the module's layers share: it is of a model that does not share them.");
            }
        }

        return new ModelSnapshot(layout, [.. tensors.Select(t => values[t[0]])], Guid.Empty, 0);
    }

    private int[] Find(LayoutEntry entry, IReadOnlyList<string> names, Dictionary<string, int> index)
    {
        int[] found = [.. names.Where(index.ContainsKey).Select(name => index[name])];
        if (found.Length == 0)
        {
            // Only where the file has none under its own name: the metadata of strangers may say anything.
            found = [.. names.Select(name => header.Metadata.GetValueOrDefault(name)).OfType<string>().Where(index.ContainsKey).Select(name => index[name]).Distinct()];
        }

        if (found.Length == 0) throw new ModelMismatchException($"The file has no tensor for the module's {entry}.");
        foreach (var tensor in found.Select(t => header.Tensors[t]))
        {
            if (entry.DType != tensor.DType || !entry.Shape.SequenceEqual(tensor.Shape))
            {
                throw new ModelMismatchException($"The file's tensor '{tensor.Name}' is {tensor.DType}[{string.Join(", ", tensor.Shape)}], the module's is {entry}.");
            }
        }

        return found;
    }
}
