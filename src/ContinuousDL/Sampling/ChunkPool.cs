namespace ContinuousDL.Sampling;

/// <summary>
/// Arrays of one small size, of which larger collections are made up: these grow without copying what they hold, and give
/// back what they do not need for another to use.
/// </summary>
internal sealed class ChunkPool<T>
{
    /// <summary>The length of a chunk is 2 to this power. Small enough to keep the arrays off the large object heap.</summary>
    public const int ChunkShift = 15;

    /// <summary>The length of a chunk.</summary>
    public const int ChunkLength = 1 << ChunkShift;

    private readonly Stack<T[]> free = new();

    public T[] Take() => free.TryPop(out var chunk) ? chunk : new T[ChunkLength];

    public void Return(T[] chunk) => free.Push(chunk);
}
