using ContinuousDL.Parameters;
using static TorchSharp.torch;

namespace ContinuousDL.Deployment;

/// <summary>One of a replica's two copies of the model, how many use it, and what predictions have written to it.</summary>
/// <typeparam name="TModule">The type of the module.</typeparam>
internal sealed class ReplicaSide<TModule>
    where TModule : nn.Module
{
    private const int Closing = 1;
    private const int Freed = 2;

    private readonly Action<ReplicaSide<TModule>> free;
    private int readers;
    private int closed;
    private TaskCompletionSource? whenFree;

    /// <param name="module">The copy.</param>
    /// <param name="free">Gives the copy back, once nobody uses it and it was closed.</param>
    /// <param name="twin">The state of the other copy, if it is there already.</param>
    public ReplicaSide(TModule module, Action<ReplicaSide<TModule>> free, ModelState? twin = null)
    {
        this.free = free;
        Module = module;
        var tensors = ModelTensors.Of(module);
        State = new ModelState(tensors, twin);
        Guard = new StateGuard([.. tensors.Slots, .. NonPersistentBuffers.Of(module, tensors.Slots)]);
    }

    public TModule Module { get; }

    public ModelState State { get; }

    /// <summary>Tells what predictions have written to.</summary>
    public StateGuard Guard { get; }

    /// <summary>Whether <see cref="Guard"/> knows its present state.</summary>
    public volatile bool IsGuarded;

    /// <summary>Whether a prediction has changed it, and it has not been put back yet.</summary>
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

    /// <summary>Makes the guard know the present state, if it does not, before anything is done with it.</summary>
    /// <param name="knowsWrites">Whether a prediction has shown already what it writes to.</param>
    /// <param name="other">The other side, where it may have shown it.</param>
    public void GuardOnce(bool knowsWrites, ReplicaSide<TModule> other)
    {
        if (IsGuarded) return;
        lock (Guard)
        {
            if (IsGuarded) return;
            Guard.Learn(other.Guard);
            Guard.Settle();
            Guard.Save(knowsWrites ? null : static _ => true);
            IsGuarded = true;
        }
    }

    /// <summary>Puts back what was written to. Nobody else may be using it.</summary>
    /// <returns>The name of a tensor that could not be put back, or null.</returns>
    public string? PutBack()
    {
        lock (Guard)
        {
            Guard.Look();
            Guard.Restore();
            return Guard.FirstNotRestored();
        }
    }

    /// <summary>Lets go of copies that nothing has turned out to need.</summary>
    public void TrimGuard()
    {
        lock (Guard) Guard.Trim();
    }

    private void Free()
    {
        if (Interlocked.Exchange(ref closed, Freed) == Closing) free(this);
    }
}
