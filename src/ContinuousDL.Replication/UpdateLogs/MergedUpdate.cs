using System.Buffers;
using System.Numerics;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>Makes one update of many: the coordinates that any of them changes, with the values that they have in the end.</summary>
internal sealed class MergedUpdate(ModelLayout layout)
{
    private const int LargestElement = sizeof(ulong);

    private readonly ulong[] changed = new ulong[(int)(((long)layout.Count + 63) / 64)];

    /// <summary>The most that the values of the update can take, in bytes: at first none, after each update what its values could add.</summary>
    private long bound;

    /// <summary>Adds the coordinates of an update.</summary>
    /// <returns>False where the update carries every coordinate, or all together could be more than one can carry: merging is no use then.</returns>
    public bool TryAdd(UpdateMessage message)
    {
        var header = UpdateCodec.ReadHeader(message.Bytes.Span);
        bound += (long)LargestElement * header.Count;
        if (header.IsWhole || Math.Min(bound, layout.SizeInBytes) > Array.MaxLength) return false;
        var rented = ArrayPool<int>.Shared.Rent(header.Count);
        var coordinates = rented.AsSpan(0, header.Count);
        UpdateCodec.ReadCoordinates(message.Bytes.Span, layout.Count, coordinates);
        foreach (var i in coordinates) changed[i >> 6] |= 1UL << i;
        ArrayPool<int>.Shared.Return(rented);
        return true;
    }

    /// <summary>Makes the update.</summary>
    /// <param name="baseSequence">The sequence of the state that the first of the updates starts from.</param>
    /// <param name="state">The state that the last of them leads to.</param>
    public ModelUpdate Build(long baseSequence, ModelState state)
    {
        var count = 0;
        foreach (var word in changed) count += BitOperations.PopCount(word);
        var coordinates = ArrayPool<int>.Shared.Rent(count);
        var next = 0;
        for (var w = 0; w < changed.Length; w++)
        {
            for (var word = changed[w]; word != 0; word &= word - 1) coordinates[next++] = (w << 6) + BitOperations.TrailingZeroCount(word);
        }

        var used = coordinates.AsSpan(0, count);
        var bytes = (int)CoordinateSections.SizeOf(used, layout);
        var values = ArrayPool<byte>.Shared.Rent(bytes);
        state.Tensors.Read(used, values.AsSpan(0, bytes));
        var identity = new UpdateIdentity(state.RunId, baseSequence, state.Sequence, layout, state.Digest);
        return new ModelUpdate(identity, count, whole: false, coordinates, values, previous: [], bytes);
    }
}
