using System.Diagnostics.Metrics;
using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Wire;
using TorchSharp.Modules;

namespace ContinuousDL.Tests.Transport;

/// <summary>A follower at work, and what it said.</summary>
internal sealed class Following : IAsyncDisposable
{
    private static readonly ReplicaFollowerOptions Quick = new() { RetryDelay = TimeSpan.FromMilliseconds(1), MaxRetryDelay = TimeSpan.FromMilliseconds(4) };

    private readonly CancellationTokenSource stopping = new();
    private readonly ReplicaFollower follower;
    private readonly Task running;

    public Following(
        ModelReplica<Sequential> replica, IUpdateSource source, UpdateCodec? codec = null, IMeterFactory? meters = null, ReplicaFollowerOptions? options = null, TimeProvider? clock = null)
    {
        follower = new ReplicaFollower(replica, source, options ?? Quick, codec, meterFactory: meters, timeProvider: clock);
        follower.StatusChanged += (_, status) =>
        {
            lock (Changes) Changes.Add(status);
        };
        running = Task.Run(() => follower.RunAsync(stopping.Token));
    }

    public IEnumerable<ReplicaState> States => Snapshot().Select(s => s.State);

    public IEnumerable<string> Reasons => Snapshot().Select(s => s.Reason ?? "");

    public ReplicaStatus Status => follower.Status;

    private List<ReplicaStatus> Changes { get; } = [];

    public Task UntilAsync(Publisher trainer) => UntilAsync(s =>
        s.State == ReplicaState.Current && s.RunId == trainer.States.RunId && s.Sequence == trainer.States.Newest.Sequence);

    public async Task UntilAsync(Func<ReplicaStatus, bool> condition)
    {
        using var timeout = new CancellationTokenSource(Patience.Limit);
        while (!condition(follower.Status))
        {
            running.IsCompleted.Should().BeFalse("a follower ends with cancellation alone");
            timeout.Token.ThrowIfCancellationRequested();
            await Task.Delay(1, timeout.Token);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await stopping.CancelAsync();
        await running.ContinueWith(_ => { }, TaskScheduler.Default);
        running.IsCanceled.Should().BeTrue();
        follower.Dispose();
        stopping.Dispose();
    }

    private List<ReplicaStatus> Snapshot()
    {
        lock (Changes) return [.. Changes];
    }
}
