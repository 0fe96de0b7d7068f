using System.Buffers;
using System.Numerics;
using ContinuousDL.Replication.Models;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.Updates;
using ContinuousDL.Replication.Wire;

namespace ContinuousDL.Replication.UpdateLogs;

/// <summary>Makes one update of many: the coordinates that any of them changes, with the values that they have in the end.</summary>
/// <remarks>
/// Since updates carry values and not differences, the newest value wins. Memory: a bit for each coordinate of the model. Makes one
/// update; not thread-safe.
/// </remarks>
public sealed class MergedUpdate
{
    private const int LargestElement = sizeof(ulong);

    private readonly ModelLayout layout;
    private readonly ulong[] changed;

    /// <summary>The most that the values of the update can take, in bytes: at first none, after each update what its values could add.</summary>
    private long bound;

    /// <summary>Begins with no update.</summary>
    /// <param name="layout">The model's tensors and their coordinates.</param>
    /// <exception cref="ArgumentNullException"><paramref name="layout"/> is null.</exception>
    public MergedUpdate(ModelLayout layout)
    {
        ArgumentNullException.ThrowIfNull(layout);
        this.layout = layout;
        changed = new ulong[(int)(((long)layout.Count + 63) / 64)];
    }

    /// <summary>Adds the coordinates of an update.</summary>
    /// <param name="message">The update as the codec made it, of a model of the layout. Its signature is not checked.</param>
    /// <returns>False where the update carries every coordinate, or all together could be more than one can carry: merging is no use then.</returns>
    /// <exception cref="WireFormatException">The bytes are not an update, or not one of a model of the layout.</exception>
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
    /// <param name="state">The state that the last of them leads to. It stays the caller's.</param>
    /// <returns>The update, which is the caller's.</returns>
    /// <exception cref="ArgumentException"><paramref name="state"/> is of a model of another layout.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="baseSequence"/> is negative, or not before the state's sequence.</exception>
    public ModelUpdate Build(long baseSequence, ModelState state)
    {
        ArgumentNullException.ThrowIfNull(state);
        if (state.Layout.Fingerprint != layout.Fingerprint) throw new ArgumentException("The state is of a model of another layout than the updates.", nameof(state));
        ArgumentOutOfRangeException.ThrowIfNegative(baseSequence);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(baseSequence, state.Sequence);
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
