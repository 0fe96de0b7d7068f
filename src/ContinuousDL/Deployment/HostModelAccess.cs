using System.Buffers;
using ContinuousDL.Parameters;

namespace ContinuousDL.Deployment;

/// <summary>Goes through a model tensor by tensor, by way of main memory.</summary>
internal sealed class HostModelAccess(ModelTensors tensors) : IModelAccess
{
    /// <inheritdoc/>
    public ulong ComputeDigest() => tensors.ComputeDigest();

    /// <inheritdoc/>
    public void Read(ReadOnlySpan<int> coordinates, Span<byte> values) => tensors.Read(coordinates, values);

    /// <inheritdoc/>
    public ulong DigestChange(ModelUpdate update)
    {
        var change = 0ul;
        var runs = update.GetRuns();
        while (runs.MoveNext())
        {
            var rented = ArrayPool<byte>.Shared.Rent(runs.Values.Length);
            var old = rented.AsSpan(0, runs.Values.Length);
            tensors.Read(runs.Coordinates, old);
            change += StateDigest.Change(runs.Entry, runs.Coordinates, old, runs.Values);
            ArrayPool<byte>.Shared.Return(rented);
        }

        return change;
    }

    /// <inheritdoc/>
    public void Write(ModelUpdate update)
    {
        if (!update.IsWhole)
        {
            tensors.Write(update.Coordinates, update.Values);
            return;
        }

        var sections = update.GetSections();
        while (sections.MoveNext()) tensors.Slots[sections.Index].WriteAll(sections.Values);
    }

    /// <remarks>From the update, which lies in memory in order, while the source's values are all over it.</remarks>
    /// <inheritdoc/>
    public void CatchUp(ModelUpdate update, IModelAccess source) => Write(update);

    /// <summary>Nothing is kept.</summary>
    public void Dispose()
    {
    }
}
