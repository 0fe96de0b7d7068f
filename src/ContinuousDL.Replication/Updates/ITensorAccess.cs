using System.Buffers;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>
/// Works on the values of one copy of a model where they are: in plain arrays (<see cref="ModelArrays"/>), in the tensors of a
/// deep-learning runtime, or in the memory of a device.
/// </summary>
/// <remarks>
/// Coordinates are ascending and distinct, in the numbering of the layout; values are the raw bytes of their tensor's dtype,
/// packed. The values stay their owner's: disposing the access gives back what working on them has taken. One caller at a time;
/// only <see cref="ComputeDigest"/> may run while another thread reads.
/// </remarks>
public interface ITensorAccess : IDisposable
{
    /// <summary>The model's tensors and their coordinates.</summary>
    ModelLayout Layout { get; }

    /// <summary>Reads single coordinates.</summary>
    /// <param name="coordinates">The coordinates.</param>
    /// <param name="values">Receives their values.</param>
    void Read(ReadOnlySpan<int> coordinates, Span<byte> values);

    /// <summary>Writes single coordinates.</summary>
    /// <param name="coordinates">The coordinates.</param>
    /// <param name="values">Their new values.</param>
    void Write(ReadOnlySpan<int> coordinates, ReadOnlySpan<byte> values);

    /// <summary>Reads consecutive elements of one tensor, in row-major order.</summary>
    /// <param name="tensor">The index of the tensor in the layout.</param>
    /// <param name="start">The first element.</param>
    /// <param name="values">Receives the elements, as many as it has room for.</param>
    void ReadRange(int tensor, int start, Span<byte> values);

    /// <summary>Writes consecutive elements of one tensor, in row-major order.</summary>
    /// <param name="tensor">The index of the tensor in the layout.</param>
    /// <param name="start">The first element.</param>
    /// <param name="values">The elements.</param>
    void WriteRange(int tensor, int start, ReadOnlySpan<byte> values);

    /// <summary>The digest of the state, computed from every value.</summary>
    ulong ComputeDigest();

    /// <summary>The change of the digest if an update were written. Nothing is written.</summary>
    /// <param name="update">An update that lists its coordinates.</param>
    ulong DigestChange(ModelUpdate update)
    {
        ArgumentNullException.ThrowIfNull(update);
        var change = 0ul;
        var runs = update.GetRuns();
        while (runs.MoveNext())
        {
            var rented = ArrayPool<byte>.Shared.Rent(runs.Values.Length);
            var old = rented.AsSpan(0, runs.Values.Length);
            Read(runs.Coordinates, old);
            change += StateDigest.Change(runs.Entry, runs.Coordinates, old, runs.Values);
            ArrayPool<byte>.Shared.Return(rented);
        }

        return change;
    }

    /// <summary>Writes an update's values.</summary>
    /// <param name="update">An update for this model.</param>
    void Write(ModelUpdate update)
    {
        ArgumentNullException.ThrowIfNull(update);
        if (!update.IsWhole)
        {
            Write(update.Coordinates, update.Values);
            return;
        }

        var sections = update.GetSections();
        while (sections.MoveNext()) WriteRange(sections.Index, 0, sections.Values);
    }

    /// <summary>Takes over the values of an update that another copy of the model has already: from the one or the other, whichever is nearer.</summary>
    /// <param name="update">An update that lists its coordinates.</param>
    /// <param name="source">The access to the other copy, which has the update's values and has not changed since.</param>
    void CatchUp(ModelUpdate update, ITensorAccess source) => Write(update);

    /// <summary>Takes over all values of another copy of the model.</summary>
    /// <param name="source">The access to the other copy.</param>
    void CopyFrom(ITensorAccess source);
}
