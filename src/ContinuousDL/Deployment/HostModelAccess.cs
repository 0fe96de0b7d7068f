using System.Buffers;
using ContinuousDL.Parameters;

namespace ContinuousDL.Deployment;

/// <summary>Goes through a model tensor by tensor, by way of main memory.</summary>
internal sealed class HostModelAccess(ModelTensors tensors) : IModelAccess
{
    private ModelLayout Layout => tensors.Layout;

    /// <inheritdoc/>
    public ulong ComputeDigest() => tensors.ComputeDigest();

    /// <inheritdoc/>
    public void Read(ReadOnlySpan<int> coordinates, Span<byte> values)
    {
        while (!coordinates.IsEmpty)
        {
            var own = NextOf(coordinates, out var i);
            var bytes = own.Length * Layout.Entries[i].ElementSize;
            tensors.Slots[i].Read(own, values[..bytes]);
            coordinates = coordinates[own.Length..];
            values = values[bytes..];
        }
    }

    /// <inheritdoc/>
    public ulong DigestChange(ModelUpdate update)
    {
        var change = 0ul;
        var sections = update.GetSections(Layout);
        while (sections.MoveNext())
        {
            var rented = ArrayPool<byte>.Shared.Rent(sections.Values.Length);
            var old = rented.AsSpan(0, sections.Values.Length);
            tensors.Slots[sections.Entry].Read(sections.Coordinates, old);
            change += StateDigest.Change(Layout.Entries[sections.Entry], sections.Coordinates, old, sections.Values);
            ArrayPool<byte>.Shared.Return(rented);
        }

        return change;
    }

    /// <inheritdoc/>
    public void Write(ModelUpdate update)
    {
        var sections = update.GetSections(Layout);
        while (sections.MoveNext())
        {
            var slot = tensors.Slots[sections.Entry];
            if (update.IsWhole) slot.WriteAll(sections.Values);
            else slot.Write(sections.Coordinates, sections.Values);
        }
    }

    /// <inheritdoc/>
    public void Copy(ReadOnlySpan<int> coordinates, IModelAccess source)
    {
        while (!coordinates.IsEmpty)
        {
            var own = NextOf(coordinates, out var i);
            var bytes = own.Length * Layout.Entries[i].ElementSize;
            var rented = ArrayPool<byte>.Shared.Rent(bytes);
            var values = rented.AsSpan(0, bytes);
            source.Read(own, values);
            tensors.Slots[i].Write(own, values);
            ArrayPool<byte>.Shared.Return(rented);
            coordinates = coordinates[own.Length..];
        }
    }

    /// <summary>Nothing is kept.</summary>
    public void Dispose()
    {
    }

    /// <summary>Those of the coordinates that are of the first one's tensor.</summary>
    private ReadOnlySpan<int> NextOf(ReadOnlySpan<int> coordinates, out int entry)
    {
        entry = Layout.EntryOf(coordinates[0]);
        return coordinates[..CoordinateRange.CountBelow(coordinates, Layout.Entries[entry].End)];
    }
}
