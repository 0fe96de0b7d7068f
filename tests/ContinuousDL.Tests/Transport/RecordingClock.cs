using System.Collections.Concurrent;
using Microsoft.Extensions.Time.Testing;

namespace ContinuousDL.Tests.Transport;

/// <summary>A clock that a test moves, and that tells what is waited for.</summary>
internal sealed class RecordingClock : FakeTimeProvider
{
    private readonly ConcurrentQueue<TimeSpan> waits = [];

    /// <summary>The waits that were begun, in their order.</summary>
    public IReadOnlyCollection<TimeSpan> Waits => waits;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = base.CreateTimer(callback, state, dueTime, period);
        waits.Enqueue(dueTime);
        return timer;
    }

    /// <summary>Returns when somebody waits for so long.</summary>
    public async Task UntilWaitedForAsync(TimeSpan wait, int times = 1)
    {
        using var timeout = new CancellationTokenSource(Patience.Limit);
        while (waits.Count(w => w == wait) < times) await Task.Delay(1, timeout.Token);
    }
}
