using System.Numerics;
using System.Runtime.InteropServices;
using ContinuousDL.Memory;
using ContinuousDL.Randomness;

namespace ContinuousDL.Sampling;

/// <summary>
/// How many times each sample of an interval was selected, and draws from the samples with the weights 1/count, in integers
/// and in constant time.
/// </summary>
/// <remarks>
/// <para>Samples are grouped by the power of two at or below their count, as in Matias, Vitter and Ni, "Dynamic generation of
/// discrete random variates" (2003). A group is drawn by its size times 2^-g, the most that a member can weigh, a
/// member with equal probabilities, and a member with count c is accepted with probability 2^g / c, more than one half.
/// Selecting a sample changes its group only when the count reaches a power of two.</para>
/// <para>A sample takes 12 bytes, in chunks that are never copied: growing costs the same for each new sample, and the
/// memory of dropped samples is used again.</para>
/// </remarks>
internal sealed class SelectionCounts
{
    /// <summary>The most samples, so that a position fits into 32 bits beside the count and the total weight into 64.</summary>
    public const long MaximumSamples = int.MaxValue;

    private const int HighestGroup = 30;
    private const int PositionBits = 32;
    private const long PositionMask = uint.MaxValue;

    private readonly ChunkPool<uint> memberPool = new();
    private readonly ChunkPool<Entry> entryPool = new();
    private readonly ChunkedStack<uint>[] groups = new ChunkedStack<uint>[HighestGroup + 1];
    private readonly List<Entry[]> entries = [];

    /// <summary>The number, from index 0 on, of the chunk that is <c>entries[0]</c>.</summary>
    private long firstChunk;

    /// <summary>The total over the samples that can be drawn of 2^(<see cref="HighestGroup"/> − group).</summary>
    private ulong totalWeight;

    /// <summary>Makes counts for no samples yet.</summary>
    /// <param name="first">The index that the first sample will have.</param>
    public SelectionCounts(long first)
    {
        (First, End) = (first, first);
        firstChunk = first >> ChunkPool<Entry>.ChunkShift;
        for (var g = 0; g < groups.Length; g++) groups[g] = new(memberPool);
    }

    /// <summary>The index of the oldest sample.</summary>
    public long First { get; private set; }

    /// <summary>One past the index of the newest sample.</summary>
    public long End { get; private set; }

    /// <summary>Adds the next sample, at <see cref="End"/>, set aside.</summary>
    /// <param name="count">How many times it counts as selected, at least 1.</param>
    public void AppendAside(int count)
    {
        if (End >> ChunkPool<Entry>.ChunkShift == firstChunk + entries.Count) entries.Add(entryPool.Take());
        EntryOf(End++) = new Entry { Count = count, Position = Entry.Aside };
    }

    /// <summary>Adds the next sample, at <see cref="End"/>.</summary>
    /// <param name="count">How many times it counts as selected, at least 1.</param>
    public void Append(int count)
    {
        AppendAside(count);
        PutBack(End - 1);
    }

    /// <summary>Forgets the oldest sample.</summary>
    public void DropFirst()
    {
        SetAside(First);
        First++;
        if ((First & (ChunkPool<Entry>.ChunkLength - 1)) == 0) ReturnFirstChunk();
    }

    /// <summary>Keeps a sample from being drawn until it is <see cref="PutBack"/>.</summary>
    public void SetAside(long index)
    {
        ref var entry = ref EntryOf(index);
        Remove(ref entry, GroupOf(entry.Count), entry.Position);
    }

    /// <summary>Lets a sample that was set aside be drawn again.</summary>
    public void PutBack(long index)
    {
        ref var entry = ref EntryOf(index);
        var g = GroupOf(entry.Count);
        entry.Position = groups[g].Count;
        groups[g].Push((uint)index);
        totalWeight += WeightOf(g);
    }

    /// <summary>Counts a selection of a sample that is set aside. Counts end at 2^31 − 1.</summary>
    public void CountSelection(long index)
    {
        ref var count = ref EntryOf(index).Count;
        if (count < int.MaxValue) count++;
    }

    /// <summary>Draws from the samples that are not set aside.</summary>
    /// <param name="random">Where the random numbers come from.</param>
    /// <param name="drawn">Receives the samples drawn. There must be one to draw, or as many as places where they are set aside.</param>
    /// <param name="setAside">Whether a sample that is drawn is set aside, so that each is drawn at most once.</param>
    /// <remarks>
    /// All places are drawn at once, then those where the sample was rejected or had been drawn are drawn again: the same
    /// distribution as one after the other, and the waits for memory, two for each sample of a long history, overlap.
    /// </remarks>
    public void Draw(RandomSource random, Span<long> drawn, bool setAside)
    {
        while (!drawn.IsEmpty)
        {
            foreach (ref var place in drawn)
            {
                place = DrawPosition(random);
                Prefetch.Of(ref MemberAt(place));
            }

            foreach (ref var place in drawn)
            {
                place = IndexOf(MemberAt(place));
                Prefetch.Of(ref EntryOf(place));
            }

            var accepted = 0;
            foreach (var index in drawn)
            {
                ref var entry = ref EntryOf(index);
                var g = GroupOf(entry.Count);
                if (entry.Position == Entry.Aside) continue;
                if (entry.Count != 1 << g && random.NextBelow(entry.Count) >= 1L << g) continue;
                if (setAside) Remove(ref entry, g, entry.Position);
                drawn[accepted++] = index;
            }

            drawn = drawn[accepted..];
        }
    }

    /// <summary>Writes the counts, and the order within the groups, which decides what is drawn. No sample may be set aside.</summary>
    public void Save(BinaryWriter writer)
    {
        writer.Write(First);
        writer.Write(End);

        // A thousand at a time: there may be millions, and a trainer stands still meanwhile.
        Span<int> piece = stackalloc int[1024];
        var length = 0;
        for (var index = First; index < End; index++) Add(EntryOf(index).Count, piece, ref length, writer);
        foreach (var group in groups)
        {
            for (var position = 0; position < group.Count; position++) Add((int)(IndexOf(group[position]) - First), piece, ref length, writer);
        }

        writer.Write(MemoryMarshal.AsBytes(piece[..length]));

        static void Add(int value, Span<int> piece, ref int length, BinaryWriter writer)
        {
            piece[length++] = value;
            if (length < piece.Length) return;
            writer.Write(MemoryMarshal.AsBytes(piece));
            length = 0;
        }
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="InvalidDataException">The data is damaged.</exception>
    /// <exception cref="EndOfStreamException">The data is cut short.</exception>
    public static SelectionCounts Load(BinaryReader reader)
    {
        var (first, end) = (reader.ReadInt64(), reader.ReadInt64());
        if (first < 0 || end < first || end - first > MaximumSamples)
            throw new InvalidDataException($"Selection counts are said to be those of the samples [{first}, {end}), which cannot be.");

        // Memory is taken as the data comes, never for a length that is only claimed.
        var counts = new SelectionCounts(first);
        Span<int> sizes = stackalloc int[HighestGroup + 1];
        while (counts.End < end)
        {
            var count = reader.ReadInt32();
            if (count < 1) throw new InvalidDataException($"Sample {counts.End} is said to be selected {count} times; a count is at least 1.");
            counts.AppendAside(count);
            sizes[GroupOf(count)]++;
        }

        for (var g = 0; g < sizes.Length; g++)
        {
            for (var position = 0; position < sizes[g]; position++) counts.LoadMember(g, reader.ReadInt32());
        }

        return counts;
    }

    /// <summary>A group by its weight, and a position in it: the group above <see cref="PositionBits"/> bits.</summary>
    private long DrawPosition(RandomSource random)
    {
        var ticket = random.NextBelow(totalWeight);
        var g = 0;
        while (ticket >= (ulong)groups[g].Count * WeightOf(g)) ticket -= (ulong)groups[g].Count * WeightOf(g++);
        return ((long)g << PositionBits) | (long)(ticket >> (HighestGroup - g));
    }

    private ref uint MemberAt(long place) => ref groups[place >> PositionBits][(int)(place & PositionMask)];

    private void LoadMember(int g, int offset)
    {
        if (offset < 0 || offset >= End - First) throw new InvalidDataException($"There are {End - First} samples, so that none is at {offset}.");
        var index = First + offset;
        var entry = EntryOf(index);
        if (entry.Position != Entry.Aside || GroupOf(entry.Count) != g)
            throw new InvalidDataException($"Sample {index} is not, or not once, in the group of those selected at least {1 << g} times.");
        PutBack(index);
    }

    private void Remove(ref Entry entry, int g, int position)
    {
        var last = groups[g].Pop();
        if (position < groups[g].Count)
        {
            groups[g][position] = last;
            EntryOf(IndexOf(last)).Position = position;
        }

        entry.Position = Entry.Aside;
        totalWeight -= WeightOf(g);
    }

    private void ReturnFirstChunk()
    {
        entryPool.Return(entries[0]);
        entries.RemoveAt(0);
        firstChunk++;
    }

    private ref Entry EntryOf(long index) =>
        ref entries[(int)((index >> ChunkPool<Entry>.ChunkShift) - firstChunk)][(int)index & (ChunkPool<Entry>.ChunkLength - 1)];

    /// <summary>The index of a member, of which the group keeps the lower half: there are fewer than 2^32 indices.</summary>
    private long IndexOf(uint member) => First + (member - (uint)First);

    private static int GroupOf(int count) => BitOperations.Log2((uint)count);

    private static ulong WeightOf(int g) => 1ul << (HighestGroup - g);

    private struct Entry
    {
        /// <summary>The position of a sample that is set aside.</summary>
        public const int Aside = -1;

        public int Count;

        /// <summary>Where the sample is in its group; <see cref="Aside"/> while it is in none.</summary>
        public int Position;
    }
}
