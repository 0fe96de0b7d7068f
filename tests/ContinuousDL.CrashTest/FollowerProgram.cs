using ContinuousDL.Replicas;
using ContinuousDL.Replication.Replicas;
using ContinuousDL.Replication.Transport;
using ContinuousDL.Replication.UpdateLogs;
using ContinuousDL.Replication.Updates;
using TorchSharp.Modules;
using static ContinuousDL.CrashTest.CrashModel;
using static TorchSharp.torch;

namespace ContinuousDL.CrashTest;

/// <summary>A replica in a process of its own that follows the trainer, whatever happens to that.</summary>
internal static class FollowerProgram
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(20);

    /// <summary>Follows until it is stopped.</summary>
    /// <param name="directory">Where everything is kept.</param>
    /// <param name="stop">Ends it.</param>
    public static async Task RunAsync(string directory, CancellationToken stop)
    {
        set_num_threads(1);
        using var model = Make();
        using var replica = new ModelReplica<Sequential>(Make, ModelSnapshot.Of(model));
        var source = new Watched(new DirectoryUpdateSource(Updates(directory), PollInterval), replica);
        using var follower = new ReplicaFollower(replica, source, new() { RetryDelay = PollInterval, MaxRetryDelay = TimeSpan.FromMilliseconds(100) });
        try
        {
            await follower.RunAsync(stop);
        }
        catch (OperationCanceledException)
        {
            // It was told to stop.
        }
    }

    /// <summary>Says which state the replica has whenever it asks for more.</summary>
    private sealed class Watched(IUpdateSource inner, ModelReplica<Sequential> replica) : IUpdateSource
    {
        private (Guid Run, long Sequence) said;

        public ValueTask<UpdateBatch> ReceiveAsync(Guid runId, long sequence, CancellationToken cancellationToken = default)
        {
            if (replica.RunId != Guid.Empty && said != (replica.RunId, replica.Sequence))
            {
                said = (replica.RunId, replica.Sequence);
                Say($"at {replica.RunId} {replica.Sequence} {replica.Digest:x16} {replica.Verify()}");
            }

            return inner.ReceiveAsync(runId, sequence, cancellationToken);
        }
    }
}
