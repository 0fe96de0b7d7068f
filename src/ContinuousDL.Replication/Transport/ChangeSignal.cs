namespace ContinuousDL.Replication.Transport;

/// <summary>Lets those that wait for news know of them. To be used under its owner's lock, but for <see cref="WaitAsync"/>.</summary>
public sealed class ChangeSignal
{
    private TaskCompletionSource? waiting;

    /// <summary>Ends with the next news.</summary>
    public Task Next => (waiting ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;

    /// <summary>There are news.</summary>
    public void Raise()
    {
        waiting?.TrySetResult();
        waiting = null;
    }

    /// <summary>There will be none any more.</summary>
    /// <param name="reason">What those that wait get.</param>
    public void End(Exception reason)
    {
        waiting?.TrySetException(reason);
        waiting = null;
    }

    /// <summary>Waits for news, and no longer than the <see cref="UpdateBatch.LongestSilence"/>.</summary>
    /// <param name="next">What was <see cref="Next"/> when the owner looked.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Whether there are news.</returns>
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
