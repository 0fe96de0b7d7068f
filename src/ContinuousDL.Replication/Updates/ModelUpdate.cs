using System.Buffers;
using ContinuousDL.Replication.Models;

namespace ContinuousDL.Replication.Updates;

/// <summary>
/// The change that turns the deployed model's state at one sequence into the state at another: the coordinates that changed, their exact
/// new values, and a digest of the whole state after it.
/// </summary>
/// <remarks>
/// Values are absolute: applying an update twice is harmless. Immutable. Disposing an update gives its memory back for the
/// next ones, which keeps a training loop free of large allocations; one that is kept or shared need not be disposed.
/// </remarks>
public sealed class ModelUpdate : IDisposable
{
    private readonly int valueBytes;
    private int[]? coordinates;
    private byte[]? values;
    private byte[]? previous;

    /// <summary>Takes over arrays that were rented from the shared pools.</summary>
    internal ModelUpdate(in UpdateIdentity identity, int count, bool whole, int[] coordinates, byte[] values, byte[] previous, int valueBytes)
    {
        RunId = identity.RunId;
        BaseSequence = identity.BaseSequence;
        Sequence = identity.Sequence;
        Layout = identity.Layout;
        StateDigest = identity.Digest;
        Count = count;
        IsWhole = whole;
        this.coordinates = coordinates;
        this.values = values;
        this.previous = previous;
        this.valueBytes = valueBytes;
    }

    /// <summary>The training run whose state it changes; sequences count within a run.</summary>
    public Guid RunId { get; }

    /// <summary>The sequence of the state that the update starts from. A state in between [<see cref="BaseSequence"/>, <see cref="Sequence"/>) will do as well.</summary>
    public long BaseSequence { get; }

    /// <summary>The sequence of the state after it: the number of updates since the trainer started.</summary>
    public long Sequence { get; }

    /// <summary>The <see cref="ModelLayout.Fingerprint"/> of the model that it is for.</summary>
    public UInt128 ModelFingerprint => Layout.Fingerprint;

    /// <summary>The digest of the whole state after the update, buffers included.</summary>
    public ulong StateDigest { get; }

    /// <summary>How many coordinates the update carries.</summary>
    public int Count { get; }

    /// <summary>Whether it carries every coordinate, and so lists none.</summary>
    public bool IsWhole { get; }

    /// <summary>The coordinates, in the numbering of the <see cref="ModelLayout"/>, ascending and distinct. Empty when <see cref="IsWhole"/>.</summary>
    /// <exception cref="ObjectDisposedException">The update is disposed.</exception>
    public ReadOnlySpan<int> Coordinates
    {
        get
        {
            var array = coordinates;
            ObjectDisposedException.ThrowIf(array is null, this);
            return array.AsSpan(0, IsWhole ? 0 : Count);
        }
    }

    /// <summary>The new values in the order of the coordinates, each as the raw bytes of its tensor's dtype, packed.</summary>
    /// <exception cref="ObjectDisposedException">The update is disposed.</exception>
    public ReadOnlySpan<byte> Values
    {
        get
        {
            var array = values;
            ObjectDisposedException.ThrowIf(array is null, this);
            return array.AsSpan(0, valueBytes);
        }
    }

    /// <summary>The tensors of the model that it is for.</summary>
    public ModelLayout Layout { get; }

    /// <summary>The values before the update, packed like <see cref="Values"/>; empty where they are not known.</summary>
    public ReadOnlySpan<byte> PreviousValues
    {
        get
        {
            var array = previous;
            ObjectDisposedException.ThrowIf(array is null, this);
            return array.Length == 0 ? [] : array.AsSpan(0, valueBytes);
        }
    }

    /// <summary>The size before any coding: 4 bytes for each coordinate listed, and the values.</summary>
    public long SizeInBytes => valueBytes + (IsWhole ? 0 : 4L * Count);

    /// <summary>The update that turns one state of a model into another, whichever of them is the older one.</summary>
    /// <param name="from">The state that it starts from, whose run it belongs to.</param>
    /// <param name="to">The state that it leads to.</param>
    /// <param name="sequence">The sequence that the state has after it; larger than that of <paramref name="from"/>.</param>
    /// <param name="runId">The run, where <paramref name="from"/> does not know it. Default: the one of <paramref name="from"/>.</param>
    /// <exception cref="ModelMismatchException">The states are of different architectures.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="sequence"/> is not larger.</exception>
    public static ModelUpdate Between(ModelSnapshot from, ModelSnapshot to, long sequence, Guid? runId = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(sequence, from.Sequence);
        if (from.Layout.FirstDifference(to.Layout) is { } difference)
        {
            throw new ModelMismatchException($"The states are of models of different architectures. {difference}");
        }

        var changes = new UpdateBuilder();
        for (var i = 0; i < from.Layout.Entries.Count; i++)
        {
            var entry = from.Layout.Entries[i];
            var (old, current) = (from.Tensor(i), to.Tensor(i));
            for (var offset = 0L; offset < old.Length;)
            {
                var before = old.From(offset);
                var after = current.From(offset);
                var common = Math.Min(before.Length, after.Length);
                RecordChanges(changes, entry, (int)(offset / entry.ElementSize), before[..common], after[..common]);
                offset += common;
            }
        }

        return changes.Build(new UpdateIdentity(runId ?? from.RunId, from.Sequence, sequence, from.Layout, to.StateDigest));
    }

    /// <summary>Records where some values of a tensor, from the element <paramref name="first"/> on, differ from those before.</summary>
    private static void RecordChanges(UpdateBuilder changes, LayoutEntry entry, int first, ReadOnlySpan<byte> old, ReadOnlySpan<byte> current)
    {
        var size = entry.ElementSize;
        for (var position = old.CommonPrefixLength(current); position < old.Length; position += old[position..].CommonPrefixLength(current[position..]))
        {
            var j = position / size;
            changes.Reserve(1, size);
            changes.Record(entry.Offset + first + j, Scalars.Load(old, j, size), Scalars.Load(current, j, size), size);
            position = (j + 1) * size;
        }
    }

    /// <summary>The same update in memory of its own, without the values before. The caller owns it.</summary>
    public ModelUpdate Copy()
    {
        var (ownCoordinates, ownValues) = (Rent(Coordinates), Rent(Values));
        return new ModelUpdate(new UpdateIdentity(RunId, BaseSequence, Sequence, Layout, StateDigest), Count, IsWhole, ownCoordinates, ownValues, [], valueBytes);

        static T[] Rent<T>(ReadOnlySpan<T> source)
        {
            var copy = ArrayPool<T>.Shared.Rent(source.Length);
            source.CopyTo(copy);
            return copy;
        }
    }

    /// <summary>Gives the update's memory back. Its coordinates and values can't be read any more, and must not be in use.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref coordinates, null) is { Length: > 0 } c) ArrayPool<int>.Shared.Return(c);
        if (Interlocked.Exchange(ref values, null) is { Length: > 0 } v) ArrayPool<byte>.Shared.Return(v);
        if (Interlocked.Exchange(ref previous, null) is { Length: > 0 } p) ArrayPool<byte>.Shared.Return(p);
    }

    /// <summary>The update tensor by tensor: the part of its coordinates and values that belongs to each.</summary>
    public Sections GetSections() => new(this, Layout.Tensors);

    /// <summary>The same by runs of tensors of one kind and dtype.</summary>
    public Sections GetRuns() => new(this, Layout.Runs);

    /// <summary>Goes through an update part by part.</summary>
    public ref struct Sections(ModelUpdate update, ReadOnlySpan<LayoutEntry> entries)
    {
        private readonly bool isWhole = update.IsWhole;
        private readonly ReadOnlySpan<LayoutEntry> entries = entries;
        private readonly ReadOnlySpan<byte> values = update.Values;
        private readonly ReadOnlySpan<byte> previous = update.PreviousValues;
        private CoordinateSections sections = new(update.Coordinates, entries);
        private int next;
        private int end;

        /// <summary>The tensor or run.</summary>
        public LayoutEntry Entry { get; private set; } = null!;

        /// <summary>Its index.</summary>
        public int Index { get; private set; }

        /// <summary>Its coordinates; empty when all of them change.</summary>
        public ReadOnlySpan<int> Coordinates { get; private set; }

        /// <summary>Its new values, packed.</summary>
        public ReadOnlySpan<byte> Values { get; private set; }

        /// <summary>The values before, packed; empty where they are not known.</summary>
        public ReadOnlySpan<byte> Previous { get; private set; }

        /// <summary>Goes on to the next part.</summary>
        /// <returns>Whether there is one.</returns>
        public bool MoveNext()
        {
            if (isWhole ? next == entries.Length : !sections.MoveNext()) return false;
            Index = isWhole ? next++ : sections.Index;
            Entry = entries[Index];
            Coordinates = sections.Coordinates;
            var start = end;
            end += isWhole ? Entry.Length * Entry.ElementSize : sections.ByteCount;
            Values = values[start..end];
            Previous = previous.IsEmpty ? [] : previous[start..end];
            return true;
        }
    }
}
