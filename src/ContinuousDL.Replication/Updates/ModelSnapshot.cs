using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Storage;

namespace ContinuousDL.Replication.Updates;

/// <summary>A copy of a model's whole state at one sequence: where a replica starts.</summary>
/// <remarks>Immutable; kept in managed memory, independent of the model it was taken of.</remarks>
public sealed class ModelSnapshot
{
    private readonly TensorValues[] values;

    /// <summary>Takes over values that were read from elsewhere, and computes their digest.</summary>
    /// <param name="layout">The model's tensors.</param>
    /// <param name="values">For each tensor all its values, in row-major order.</param>
    /// <param name="runId">The training run.</param>
    /// <param name="sequence">The sequence of the state.</param>
    internal ModelSnapshot(ModelLayout layout, TensorValues[] values, Guid runId, long sequence)
    {
        Layout = layout;
        RunId = runId;
        Sequence = sequence;
        this.values = values;
        StateDigest = ComputeDigest();
    }

    /// <summary>Takes over values that lie in one array for each tensor.</summary>
    internal ModelSnapshot(ModelLayout layout, byte[][] values, Guid runId, long sequence)
        : this(layout, [.. values.Select(v => new TensorValues(v))], runId, sequence)
    {
    }

    /// <summary>The same state with a signature. Shares the values.</summary>
    private ModelSnapshot(ModelSnapshot other, byte[] signature)
    {
        (Layout, RunId, Sequence, StateDigest, values) = (other.Layout, other.RunId, other.Sequence, other.StateDigest, other.values);
        Signature = signature;
    }

    /// <summary>The model's tensors and their coordinates.</summary>
    public ModelLayout Layout { get; }

    /// <summary>The training run that the state belongs to; <see cref="Guid.Empty"/> where it is not known, as of a module taken by itself.</summary>
    public Guid RunId { get; }

    /// <summary>The sequence of the state.</summary>
    public long Sequence { get; }

    /// <summary>The digest of the state.</summary>
    public ulong StateDigest { get; }

    /// <summary>Whether it carries a signature, made by the codec's <c>Sign</c>. Whether that is right is for its <c>Verify</c> to say.</summary>
    public bool IsSigned => Signature.Length > 0;

    /// <summary>The signature; empty without one.</summary>
    internal ReadOnlyMemory<byte> Signature { get; }

    /// <summary>The same state with a signature.</summary>
    internal ModelSnapshot WithSignature(byte[] signature) => new(this, signature);

    /// <summary>Copies a state.</summary>
    /// <param name="tensors">The values.</param>
    /// <param name="runId">The training run; <see cref="Guid.Empty"/> where it is not known: a replica that starts from the snapshot follows the first run that it is sent an update of.</param>
    /// <param name="sequence">The sequence of the state. Default: 0.</param>
    public static ModelSnapshot Of(ITensorAccess tensors, Guid runId = default, long sequence = 0)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        return new ModelSnapshot(tensors.Layout, [.. tensors.Layout.Entries.Select((entry, i) => Read(tensors, entry, i))], runId, sequence);
    }

    /// <summary>Reads a snapshot that <see cref="Save(string)"/> wrote.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="SnapshotFormatException">It is no valid snapshot, or its values are not those that it was written with.</exception>
    /// <exception cref="IOException">The file can't be read.</exception>
    public static ModelSnapshot Load(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        using var file = Open(path);
        return SnapshotReader.Read(file, names: null);
    }

    /// <summary>Reads a snapshot that <see cref="Save(Stream)"/> wrote.</summary>
    /// <param name="stream">Where it begins, up to the end of the stream. It stays the caller's.</param>
    /// <exception cref="SnapshotFormatException">As <see cref="Load(string)"/>.</exception>
    public static ModelSnapshot Load(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        return SnapshotReader.Read(stream, names: null);
    }

    /// <summary>
    /// Reads a safetensors file for a model: a snapshot, or a file of any other origin that has all tensors of the model and
    /// no more, which gives a snapshot at sequence 0 of no run in particular. Weights that layers share may be there under any of
    /// their names, or under several with the same values.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="names">The model's tensors, under all their names.</param>
    /// <exception cref="SnapshotFormatException">The file is not valid.</exception>
    /// <exception cref="ModelMismatchException">Its tensors are not the model's; the message names the first difference.</exception>
    /// <exception cref="IOException">The file can't be read.</exception>
    public static ModelSnapshot Load(string path, TensorNames names)
    {
        ArgumentNullException.ThrowIfNull(path);
        ArgumentNullException.ThrowIfNull(names);
        using var file = Open(path);
        return SnapshotReader.Read(file, names);
    }

    /// <summary>Reads a safetensors file for a model, as <see cref="Load(string, TensorNames)"/>.</summary>
    /// <param name="stream">Where it begins, up to the end of the stream. It stays the caller's.</param>
    /// <param name="names">The model's tensors, under all their names.</param>
    /// <exception cref="SnapshotFormatException">The file is not valid.</exception>
    /// <exception cref="ModelMismatchException">Its tensors are not the model's; the message names the first difference.</exception>
    public static ModelSnapshot Load(Stream stream, TensorNames names)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(names);
        return SnapshotReader.Read(stream, names);
    }

    /// <summary>
    /// Writes the snapshot as a safetensors file, which any reader of that format can read. The file is there whole or not at
    /// all, also after a crash; it takes the place of one of that name.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <exception cref="NotSupportedException">The format can't hold the names of the tensors: one is <c>__metadata__</c>, or two are the same.</exception>
    /// <exception cref="IOException">The file can't be written.</exception>
    public void Save(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        DurableFile.Write(path, Save);
    }

    /// <summary>Writes the snapshot in the safetensors format.</summary>
    /// <param name="stream">Where to. It stays the caller's.</param>
    /// <exception cref="NotSupportedException">As <see cref="Save(string)"/>.</exception>
    public void Save(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        new SnapshotImage(this).WriteTo(stream);
    }

    /// <summary>The values of one tensor, in row-major order, as raw bytes of its dtype.</summary>
    /// <param name="entry">The index of the tensor in the layout.</param>
    /// <exception cref="NotSupportedException">They take more bytes than a span can have, about 2 GiB: use <see cref="CopyValues"/>.</exception>
    public ReadOnlySpan<byte> Values(int entry) => values[entry].PartCount == 1 ? values[entry].From(0) : throw new NotSupportedException(
        $"The values of '{Layout.Entries[entry].Name}' take {values[entry].Length:N0} bytes, more than a span can have: {nameof(CopyValues)} gives any part of them.");

    /// <summary>Copies values of one tensor, of any size.</summary>
    /// <param name="entry">The index of the tensor in the layout.</param>
    /// <param name="offset">Where to begin, in bytes from the tensor's first value, in row-major order.</param>
    /// <param name="destination">Receives the values, as raw bytes of the tensor's dtype: as many as there is room for.</param>
    /// <exception cref="ArgumentOutOfRangeException">The tensor does not have that many bytes from <paramref name="offset"/> on.</exception>
    public void CopyValues(int entry, long offset, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, values[entry].Length - destination.Length);
        values[entry].CopyTo(offset, destination);
    }

    /// <summary>Makes the values of a copy of the model the snapshot's.</summary>
    /// <param name="tensors">The copy.</param>
    /// <exception cref="ModelMismatchException">It is of another architecture; the message names the first difference.</exception>
    public void CopyTo(ITensorAccess tensors)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        if (Layout.FirstDifference(tensors.Layout) is { } difference)
        {
            throw new ModelMismatchException($"The snapshot is of a model of another architecture. {difference}");
        }

        for (var i = 0; i < values.Length; i++)
        {
            for (var offset = 0L; offset < values[i].Length;)
            {
                var part = values[i].From(offset);
                tensors.WriteRange(i, (int)(offset / Layout.Entries[i].ElementSize), part);
                offset += part.Length;
            }
        }
    }

    /// <summary>The values of one tensor, of any size.</summary>
    internal TensorValues Tensor(int entry) => values[entry];

    private ulong ComputeDigest()
    {
        var digest = 0ul;
        for (var i = 0; i < values.Length; i++) digest += values[i].Digest(Layout.Entries[i]);
        return digest;
    }

    private static TensorValues Read(ITensorAccess tensors, LayoutEntry entry, int tensor)
    {
        var copy = TensorValues.Allocate(entry);
        for (var offset = 0L; offset < copy.Length;)
        {
            var part = copy.From(offset);
            tensors.ReadRange(tensor, (int)(offset / entry.ElementSize), part);
            offset += part.Length;
        }

        return copy;
    }

    private static FileStream Open(string path) => new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
}
