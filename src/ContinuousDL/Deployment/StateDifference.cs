using ContinuousDL.Parameters;

namespace ContinuousDL.Deployment;

/// <summary>The update that turns one state of a model into another.</summary>
internal static class StateDifference
{
    /// <summary>How many bytes are compared at a time before single elements are: most of a model is the same in two of its states.</summary>
    private const int BlockBytes = 1 << 10;

    /// <summary>Makes the update of every coordinate in which two states differ.</summary>
    /// <param name="from">The state before.</param>
    /// <param name="to">The state after; of the same layout.</param>
    /// <param name="identity">What the update says beside that; its digest is that of <paramref name="to"/>.</param>
    public static ModelUpdate Between(ModelSnapshot from, ModelSnapshot to, in UpdateIdentity identity)
    {
        var changes = new UpdateBuilder();
        for (var e = 0; e < to.Layout.Entries.Count; e++)
        {
            var entry = to.Layout.Entries[e];
            var before = from.Values(e);
            var after = to.Values(e);
            for (var start = 0; start < after.Length; start += BlockBytes)
            {
                var length = Math.Min(BlockBytes, after.Length - start);
                var old = before.Slice(start, length);
                var current = after.Slice(start, length);
                if (!old.SequenceEqual(current)) Record(changes, entry, entry.Offset + (start / entry.ElementSize), old, current);
            }
        }

        return changes.Build(identity);
    }

    private static void Record(UpdateBuilder changes, LayoutEntry entry, int coordinate, ReadOnlySpan<byte> old, ReadOnlySpan<byte> current)
    {
        var count = current.Length / entry.ElementSize;
        changes.Reserve(count, entry.ElementSize);
        for (var i = 0; i < count; i++)
        {
            var (oldBits, newBits) = (Scalars.Load(old, i, entry.ElementSize), Scalars.Load(current, i, entry.ElementSize));
            if (oldBits != newBits) changes.Record(coordinate + i, oldBits, newBits, entry.ElementSize);
        }
    }
}
