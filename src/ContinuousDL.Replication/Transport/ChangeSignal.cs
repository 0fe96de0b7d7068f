namespace ContinuousDL.Replication.Transport;

/// <summary>Lets those that wait for news know of them. To be used under its owner's lock, but for <see cref="WaitAsync"/>.</summary>
public sealed class ChangeSignal
{
    private TaskCompletionSource? waiting;

    /// <summary>Ends with the next change.</summary>
    public Task Next => (waiting ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;

    /// <summary>Ends the waits: something has changed.</summary>
    public void Raise()
    {
        waiting?.TrySetResult();
        waiting = null;
    }

    /// <summary>Ends the waits with an exception: nothing will change any more.</summary>
    /// <param name="reason">The exception that the waits end with.</param>
    public void End(Exception reason)
    {
        waiting?.TrySetException(reason);
        waiting = null;
    }

    /// <summary>Waits for a change, and no longer than the <see cref="UpdateBatch.LongestSilence"/>.</summary>
    /// <param name="next">The value of <see cref="Next"/> when the owner looked.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Whether something has changed.</returns>
    public static async ValueTask<bool> WaitAsync(Task next, CancellationToken cancellationToken)
    {
        try
        {
            await next.WaitAsync(UpdateBatch.LongestSilence, cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (TimeoutException)
        {
            return false;
        }
    }
}
