using System.Buffers;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Tests.Wire;

/// <summary>A model's state in memory, of any dtypes, and updates that lead from one to another.</summary>
internal sealed class WireModel : IDisposable
{
    private readonly ModelArrays tensors;

    public WireModel(params (DType DType, CoordinateKind Kind, int Length)[] entries)
    {
        Layout = ModelLayout.Of(entries.Select((e, i) => new TensorDescription($"tensor{i}", e.Kind, e.DType, [e.Length])));
        tensors = new ModelArrays(Layout);
        State = new ModelState(tensors);
    }

    public ModelLayout Layout { get; }

    /// <summary>The state that messages are decoded for.</summary>
    public ModelState State { get; }

    public static Guid Run { get; } = new("00112233-4455-6677-8899-aabbccddeeff");

    public void Dispose() => tensors.Dispose();

    /// <summary>Makes these values, packed, the state at a sequence.</summary>
    public void Load(byte[] values, long sequence) => State.Load(new ModelSnapshot(Layout, Cut(values), Run, sequence));

    /// <summary>All values, packed.</summary>
    public byte[] Values()
    {
        var result = new List<byte>();
        for (var t = 0; t < Layout.Entries.Count; t++)
        {
            var values = new byte[Layout.Entries[t].SizeInBytes];
            tensors.ReadRange(t, 0, values);
            result.AddRange(values);
        }

        return [.. result];
    }

    /// <summary>The update that makes some coordinates of the state those of <paramref name="after"/>.</summary>
    /// <param name="after">All values after it, packed.</param>
    /// <param name="coordinates">The coordinates; null for a whole update.</param>
    /// <param name="steps">How many sequences it leads on.</param>
    /// <param name="withPrevious">Whether it knows the values that it replaces.</param>
    public ModelUpdate Update(byte[] after, int[]? coordinates, int steps = 1, bool withPrevious = true)
    {
        var before = Values();
        var result = coordinates is null ? after : [.. before];
        var (values, previous) = (new List<byte>(), new List<byte>());
        foreach (var coordinate in coordinates ?? [])
        {
            var (offset, size) = Locate(coordinate);
            values.AddRange(after.AsSpan(offset, size));
            previous.AddRange(before.AsSpan(offset, size));
            after.AsSpan(offset, size).CopyTo(result.AsSpan(offset));
        }

        var digest = new ModelSnapshot(Layout, Cut(result), Run, 0).StateDigest;
        var identity = new UpdateIdentity(Run, State.Sequence, State.Sequence + steps, Layout, digest);
        return coordinates is null
            ? new ModelUpdate(identity, Layout.Count, true, [], Rent(after), [], after.Length)
            : new ModelUpdate(identity, coordinates.Length, false, Rent(coordinates), Rent([.. values]), withPrevious ? Rent([.. previous]) : [], values.Count);
    }

    /// <summary>A copy in an array of the shared pool, which an update takes over.</summary>
    private static T[] Rent<T>(T[] values)
    {
        var rented = ArrayPool<T>.Shared.Rent(values.Length);
        values.CopyTo(rented, 0);
        return rented;
    }

    private (int Offset, int Size) Locate(int coordinate)
    {
        var offset = 0;
        foreach (var entry in Layout.Entries)
        {
            if (coordinate < entry.End) return (offset + ((coordinate - entry.Offset) * entry.ElementSize), entry.ElementSize);
            offset += entry.Length * entry.ElementSize;
        }

        throw new ArgumentOutOfRangeException(nameof(coordinate), coordinate, "Not a coordinate of the model.");
    }

    private byte[][] Cut(byte[] values)
    {
        var offset = 0;
        return [.. Layout.Entries.Select(e =>
        {
            var own = values.AsSpan(offset, e.Length * e.ElementSize).ToArray();
            offset += own.Length;
            return own;
        })];
    }
}
