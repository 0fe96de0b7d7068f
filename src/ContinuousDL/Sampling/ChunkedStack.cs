namespace ContinuousDL.Sampling;

/// <summary>A stack whose items can be reached by position, made up of chunks from a pool.</summary>
internal sealed class ChunkedStack<T>(ChunkPool<T> pool)
{
    private const int Mask = ChunkPool<T>.ChunkLength - 1;

    private readonly List<T[]> chunks = new(capacity: 4);

    public int Count { get; private set; }

    public ref T this[int position] => ref chunks[position >> ChunkPool<T>.ChunkShift][position & Mask];

    public void Push(T item)
    {
        if ((Count & Mask) == 0) chunks.Add(pool.Take());
        this[Count++] = item;
    }

    public T Pop()
    {
        var item = this[--Count];
        if ((Count & Mask) == 0)
        {
            pool.Return(chunks[^1]);
            chunks.RemoveAt(chunks.Count - 1);
        }

        return item;
    }
}
