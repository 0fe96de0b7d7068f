using ContinuousDL.Replication.Updates;

namespace ContinuousDL.Replication.Replicas;

/// <summary>One of a replica's two copies of the model with its state, how many use it, and whether uses have written to it.</summary>
/// <typeparam name="TModel">The type of the model.</typeparam>
/// <param name="copy">The copy.</param>
/// <param name="free">Gives the copy back, once nobody uses it and it was closed.</param>
internal sealed class ReplicaSide<TModel>(ReplicaCopy<TModel> copy, Action<ReplicaSide<TModel>> free)
    where TModel : class
{
    private const int Closing = 1;
    private const int Freed = 2;

    private readonly Lock watching = new();
    private int readers;
    private int closed;
    private TaskCompletionSource? whenFree;

    public ReplicaCopy<TModel> Copy { get; } = copy;

    public ModelState State { get; } = new(copy.Tensors);

    /// <summary>Whether the copy has noted its present state.</summary>
    public volatile bool IsWatched;

    /// <summary>Whether a use has changed it, and it has not been put back yet.</summary>
    public volatile bool IsSpoiled;

    /// <summary>Whether there is no lease on it.</summary>
    public bool IsFree => Volatile.Read(ref readers) == 0;

    /// <summary>Counts a reader in.</summary>
    public void Enter() => Interlocked.Increment(ref readers);

    /// <summary>Counts a reader out; the last one lets those that wait know, and frees a side that was closed meanwhile.</summary>
    public void Leave()
    {
        if (Interlocked.Decrement(ref readers) > 0) return;
        if (Volatile.Read(ref whenFree) is not null) Interlocked.Exchange(ref whenFree, null)?.TrySetResult();
        if (Volatile.Read(ref closed) == Closing) Free();
    }

    /// <summary>A task that ends when there is no lease on it, which need not last.</summary>
    public Task WhenFree()
    {
        if (IsFree) return Task.CompletedTask;
        var made = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var waiting = Interlocked.CompareExchange(ref whenFree, made, null) ?? made;

        // The last reader may have left before it could see that somebody waits.
        if (IsFree && Interlocked.CompareExchange(ref whenFree, null, waiting) == waiting) waiting.TrySetResult();
        return waiting.Task;
    }

    /// <summary>Frees it now, or when the last reader leaves. Nobody may come in who stays.</summary>
    public void Close()
    {
        Interlocked.Exchange(ref closed, Closing);
        if (IsFree) Free();
    }

    /// <summary>Makes the copy note its present state, if it has not, before anything is done with it.</summary>
    /// <param name="knowsWrites">Whether a use has shown already what it writes to.</param>
    /// <param name="other">The other side, where it may have shown it.</param>
    public void WatchOnce(bool knowsWrites, ReplicaSide<TModel> other)
    {
        if (IsWatched) return;
        lock (watching)
        {
            if (IsWatched) return;
            Copy.Watch(knowsWrites, other.Copy);
            IsWatched = true;
        }
    }

    /// <summary>Puts back what was written to. Nobody else may be using it.</summary>
    /// <returns>The name of a tensor that could not be put back, or null.</returns>
    public string? PutBack()
    {
        lock (watching) return Copy.PutBack();
    }

    /// <summary>Lets go of what nothing has turned out to need.</summary>
    public void Trim()
    {
        lock (watching) Copy.Trim();
    }

    private void Free()
    {
        if (Interlocked.Exchange(ref closed, Freed) == Closing) free(this);
    }
}
