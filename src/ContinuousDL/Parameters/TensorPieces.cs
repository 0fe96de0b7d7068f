using System.Buffers;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Parameters;

/// <summary>
/// Goes through all values of a tensor in row-major order, piece by piece: in the tensor's own memory where they lie like that,
/// otherwise in a copy of the piece.
/// </summary>
/// <param name="slot">The tensor.</param>
internal ref struct TensorPieces(TensorSlot slot) : IDisposable
{
    /// <summary>The most bytes of a piece: what a copy takes at most.</summary>
    private const int LargestPiece = 1 << 26;

    private readonly TensorSlot slot = slot;
    private byte[] copy = [];
    private int next;

    /// <summary>The element that the piece begins with.</summary>
    public int First { get; private set; }

    /// <summary>The values of the piece, as raw bytes. Valid until the next move.</summary>
    public ReadOnlySpan<byte> Values { get; private set; }

    public bool MoveNext()
    {
        var entry = slot.Entry;
        if (next == entry.Length) return false;
        First = next;
        var count = Math.Min(Math.Min(LargestPiece, TensorValues.LargestPart) / entry.ElementSize, entry.Length - First);
        next += count;
        if (slot.TryView(First, count, out var view))
        {
            Values = view;
            return true;
        }

        var bytes = count * entry.ElementSize;
        if (copy.Length < bytes) copy = ArrayPool<byte>.Shared.Rent(bytes);
        slot.ReadRange(First, copy.AsSpan(0, bytes));
        Values = copy.AsSpan(0, bytes);
        return true;
    }

    public void Dispose()
    {
        if (copy.Length > 0) ArrayPool<byte>.Shared.Return(copy);
        copy = [];
    }
}
