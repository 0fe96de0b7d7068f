namespace ContinuousDL.Replication.Replicas;

/// <summary>Lets one thread at a time go on, which may do so several times over. Waits can be cancelled.</summary>
internal sealed class ReentrantTurn
{
    private readonly SemaphoreSlim free = new(1, 1);
    private readonly Lock gate = new();
    private int owner;
    private int depth;

    /// <summary>Waits for the turn, unless the thread has it.</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled.</exception>
    public void Take(CancellationToken cancellationToken)
    {
        lock (gate)
        {
            if (depth > 0 && owner == Environment.CurrentManagedThreadId)
            {
                depth++;
                return;
            }
        }

        free.Wait(cancellationToken);
        lock (gate) (owner, depth) = (Environment.CurrentManagedThreadId, 1);
    }

    /// <summary>Gives the turn back, as often as it was taken.</summary>
    /// <remarks>By any thread: a lease may end on another one than it began on.</remarks>
    public void Return()
    {
        lock (gate)
        {
            if (--depth > 0) return;
            owner = 0;
        }

        free.Release();
    }

    /// <summary>Waits until nobody has the turn, which need not last.</summary>
    /// <param name="timeout">The longest wait.</param>
    /// <param name="timeProvider">The clock.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Whether nobody has it; false when the time has passed.</returns>
    public async ValueTask<bool> WaitUntilFreeAsync(TimeSpan timeout, TimeProvider timeProvider, CancellationToken cancellationToken)
    {
        if (!await WaitAsync(timeout, timeProvider, cancellationToken).ConfigureAwait(false)) return false;
        free.Release();
        return true;
    }

    private async ValueTask<bool> WaitAsync(TimeSpan timeout, TimeProvider timeProvider, CancellationToken cancellationToken)
    {
        if (free.Wait(0, CancellationToken.None)) return true;
        using var patience = new CancellationTokenSource(timeout, timeProvider);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(patience.Token, cancellationToken);
        try
        {
            await free.WaitAsync(either.Token).ConfigureAwait(false);
            return true;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return false;
        }
    }
}
